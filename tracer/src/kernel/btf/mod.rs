//! Reads as much of BTF as it takes to find members of structures and arguments of tracepoints.
//!
//! The format is Documentation/bpf/btf.rst, unchanged since 4.18 except for new kinds. The libraries that parse it build
//! every type of the kernel (measured: 300 ms and 57 MB for `btfparse`, 430 ms and 84 MB for `btf`). `tracer` needs a hundred
//! members of thirty structures and must start fast, so it walks the bytes.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use super::syscall::EXEC_FUNCTIONS;
use tracer_common::offsets::{ABSENT, Member, Offsets, Want};

/// The file with the BTF of the running kernel.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("cannot read BTF from {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The bytes are not BTF, or are truncated.
    #[error("not valid BTF: {0}")]
    Malformed(&'static str),
    /// The bytes of a file are not BTF, or are truncated.
    #[error("{path} is {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: Box<BtfError>,
    },
    /// A member without which tracing cannot work is absent.
    #[error("this kernel's BTF has no {of}.{path}")]
    Missing {
        /// Structure.
        of: &'static str,
        /// Member.
        path: &'static str,
    },
    /// The given file is of another kernel.
    #[error(
        "{path} does not describe the running kernel: {what} is not the same there. Leave out --btf: tracer reads the \
         kernel's own types"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// A file was given, and there is no BTF to compare it with.
    #[error(
        "{path} cannot be checked against the running kernel, and another kernel's types would give wrong events: \
         {source}; `mount -t sysfs sysfs /sys` helps"
    )]
    Unchecked {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<BtfError>,
    },
}

impl BtfError {
    /// Returns the remedy if the message itself does not include one.
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Foreign { .. } | Self::Unchecked { .. } => None,
            _ => Some("a kernel built with CONFIG_DEBUG_INFO_BTF=y has it in /sys/kernel/btf/vmlinux"),
        }
    }
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Largest number of typedefs and qualifiers around a type.
const MAX_WRAPPERS: usize = 32;

/// Largest depth of nested structures, unions and arrays. In a damaged file they may form a circle.
const MAX_NESTING: u32 = 32;

/// Largest number of members that are visited to find one. The largest structure of a kernel has a few hundred. In a damaged
/// file the number of paths through anonymous members may be unbounded.
const MAX_VISITS: u32 = 1 << 16;

/// The types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type in `data`. Type 0 is `void`.
    types: Vec<u32>,
    /// Structures by name. Several may have one name.
    structs: FxHashMap<Vec<u8>, Vec<u32>>,
    typedefs: FxHashMap<Vec<u8>, u32>,
    enums: FxHashMap<Vec<u8>, u32>,
}

/// Where a member is, and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    bit: u32,
    kind: u32,
}

impl Btf {
    /// Reads the BTF of a file.
    pub fn load(path: &Path) -> Result<Self, BtfError> {
        let data = std::fs::read(path).map_err(|source| BtfError::Read { path: path.into(), source })?;
        Self::parse(data).map_err(|why| BtfError::File { path: path.into(), why: Box::new(why) })
    }

    /// Indexes the types of a BTF blob in this machine's byte order.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let short = BtfError::Malformed("it is cut short");
        let head = |at: usize| word(&data, at).ok_or(BtfError::Malformed("it is cut short"));
        if data.len() < 24 || u16::from_ne_bytes([data[0], data[1]]) != MAGIC {
            return Err(BtfError::Malformed("it does not begin with the magic number of this byte order"));
        }
        let header_len = head(4)? as usize;
        let first = header_len.saturating_add(head(8)? as usize);
        let end = first.saturating_add(head(12)? as usize);
        let strings = header_len.saturating_add(head(16)? as usize);
        if end > data.len() || strings.saturating_add(head(20)? as usize) > data.len() {
            return Err(short);
        }
        let mut btf = Self {
            data,
            strings,
            types: vec![0],
            structs: FxHashMap::default(),
            typedefs: FxHashMap::default(),
            enums: FxHashMap::default(),
        };
        let mut at = first;
        while at < end {
            let info = word(&btf.data, at + 4).ok_or(BtfError::Malformed("a type is cut short"))?;
            let (kind, count) = (kind(info), (info & 0xffff) as usize);
            let id = btf.types.len() as u32;
            btf.types.push(at as u32);
            if matches!(kind, KIND_STRUCT | KIND_TYPEDEF | KIND_ENUM) {
                let name = btf.name(word(&btf.data, at).unwrap_or_default()).to_vec();
                match kind {
                    KIND_STRUCT => btf.structs.entry(name).or_default().push(id),
                    KIND_TYPEDEF => drop(btf.typedefs.insert(name, id)),
                    _ => drop(btf.enums.insert(name, id)),
                }
            }
            at += 12
                + match kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        Ok(btf)
    }

    /// Returns BTF with the same type numbers, in which only attach points have names.
    ///
    /// aya parses and searches it in a fraction of the time.
    pub fn attach_points(&self) -> Vec<u8> {
        let is_attach_point = |kind: u32, name: &[u8]| match kind {
            KIND_TYPEDEF => name.starts_with(b"btf_trace_"),
            KIND_FUNC => {
                name.starts_with(b"bpf_iter_") || EXEC_FUNCTIONS.iter().any(|function| function.as_bytes() == name)
            }
            _ => false,
        };
        let (mut types, mut strings) = (Vec::<u8>::new(), vec![0]);
        let mut type_len = 0;
        for id in 1..self.types.len() as u32 {
            let info = self.word(id, 4).unwrap_or_default();
            let name = if matches!(kind(info), KIND_TYPEDEF | KIND_FUNC) {
                self.word(id, 0).map(|offset| self.name(offset)).unwrap_or_default()
            } else {
                b""
            };
            let words = if is_attach_point(kind(info), name) {
                let words = [strings.len() as u32, kind(info) << 24, 0];
                strings.extend_from_slice(name);
                strings.push(0);
                type_len = types.len() + size_of_val(&words);
                words
            } else {
                [0, KIND_FWD << 24, 0]
            };
            types.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        }
        types.truncate(type_len);
        // Version 1, and a header of 24 bytes: offsets and lengths of types and strings.
        let head = [24, 0, type_len as u32, type_len as u32, strings.len() as u32];
        let magic = MAGIC.to_ne_bytes().into_iter().chain([1, 0]);
        magic.chain(head.into_iter().flat_map(u32::to_ne_bytes)).chain(types).chain(strings).collect()
    }

    /// Looks up every member that the kernel side wants. Members that are only useful may be absent.
    ///
    /// Members of the fields `without` count as absent if tracing does not need them.
    pub fn offsets(&self, without: &[&str]) -> Result<Offsets, BtfError> {
        Offsets::build(|member| match (self.offset(member), member.want) {
            (_, Want::Useful | Want::Bit | Want::Event) if without.contains(&member.field) => Ok(ABSENT),
            (Some(offset), _) => Ok(offset),
            (None, Want::Needed) => Err(BtfError::Missing { of: member.of, path: member.path }),
            (None, Want::Useful | Want::Bit | Want::Event) => Ok(ABSENT),
        })
    }

    /// Returns the useful members that this kernel does not have. Trace events with absent members are not used, so those do
    /// not count.
    pub fn absent(&self) -> impl Iterator<Item = &'static Member> + '_ {
        Offsets::MEMBERS.iter().filter(|member| member.want != Want::Event && self.offset(member).is_none())
    }

    /// Returns the offset of a member: in bytes, or in bits for a bit field. `None` without a member of that name and size.
    pub fn offset(&self, member: &Member) -> Option<u32> {
        let candidates = self.structs.get(member.of.as_bytes())?;
        candidates.iter().find_map(|&id| {
            if member.path == "#size" {
                return self.size(id);
            }
            member.path.split('|').find_map(|path| {
                let position = self.member(id, path, MAX_NESTING, &mut { MAX_VISITS })?;
                match member.want {
                    Want::Bit => Some(position.bit),
                    Want::Needed | Want::Useful | Want::Event => {
                        let fits = member.size == 0 || self.size(position.kind) == Some(member.size);
                        (position.bit % 8 == 0 && fits).then_some(position.bit / 8)
                    }
                }
            })
        })
    }

    /// Returns the number of arguments of a tracepoint, without the context pointer. `None` without such a tracepoint.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let typedef = *self.typedefs.get(format!("btf_trace_{name}").as_bytes())?;
        let (pointer, _) = self.resolve(typedef)?;
        let (_, info) = self.resolve(self.word(pointer, 8)?)?;
        (kind(info) == KIND_FUNC_PROTO).then_some(((info & 0xffff) as usize).checked_sub(1)?)
    }

    /// Returns the value of an enum constant. `None` if this kernel has no such constant.
    pub fn enum_value(&self, of: &str, name: &str) -> Option<u32> {
        let id = *self.enums.get(of.as_bytes())?;
        let count = (self.word(id, 4)? & 0xffff) as usize;
        let at = (0..count)
            .map(|i| 12 + 8 * i)
            .find(|&at| self.word(id, at).is_some_and(|offset| self.name(offset) == name.as_bytes()))?;
        self.word(id, at + 4)
    }

    /// Finds a dotted path of members, also inside anonymous structures and unions.
    fn member(&self, of: u32, path: &str, depth: u32, visits: &mut u32) -> Option<Position> {
        let depth = depth.checked_sub(1)?;
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        let (id, info) = self.resolve(of)?;
        if !matches!(kind(info), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for i in 0..(info & 0xffff) as usize {
            *visits = visits.checked_sub(1)?;
            let at = 12 + 12 * i;
            let (name, member, raw) = (self.word(id, at)?, self.word(id, at + 4)?, self.word(id, at + 8)?);
            // With the kind flag the upper byte is the width of a bit field.
            let bit = if info >> 31 == 1 { raw & 0x00ff_ffff } else { raw };
            let inner = match self.name(name) {
                b"" => self.member(member, path, depth, visits),
                found if found == first.as_bytes() => match rest {
                    Some(rest) => self.member(member, rest, depth, visits),
                    None => Some(Position { bit: 0, kind: member }),
                },
                _ => None,
            };
            if let Some(inner) = inner {
                return Some(Position { bit: bit.checked_add(inner.bit)?, ..inner });
            }
        }
        None
    }

    /// Returns the size of a type in bytes.
    fn size(&self, mut id: u32) -> Option<u32> {
        let mut times = 1_u32;
        for _ in 0..MAX_NESTING {
            let (at, info) = self.resolve(id)?;
            let size = match kind(info) {
                KIND_PTR => size_of::<usize>() as u32,
                KIND_ARRAY => {
                    times = times.checked_mul(self.word(at, 20)?)?;
                    id = self.word(at, 12)?;
                    continue;
                }
                KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 => self.word(at, 8)?,
                _ => return None,
            };
            return times.checked_mul(size);
        }
        None
    }

    /// Returns the type behind typedefs and qualifiers, and its info word.
    fn resolve(&self, mut id: u32) -> Option<(u32, u32)> {
        for _ in 0..MAX_WRAPPERS {
            let info = self.word(id, 4)?;
            match kind(info) {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => id = self.word(id, 8)?,
                _ => return Some((id, info)),
            }
        }
        None
    }

    /// Returns a word of a type.
    fn word(&self, id: u32, at: usize) -> Option<u32> {
        let start = *self.types.get(id as usize).filter(|_| id != 0)?;
        word(&self.data, start as usize + at)
    }

    fn name(&self, offset: u32) -> &[u8] {
        let rest = self.data.get(self.strings.saturating_add(offset as usize)..).unwrap_or_default();
        rest.split(|&b| b == 0).next().unwrap_or_default()
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests;
