//! The stack depth of each BPF program, read from its code.
//!
//! The kernel prints a program's stack depth only in the verifier's log, which the loader drops on success. So this
//! computes it from the instructions: the lowest address below the frame pointer that any of them reaches. The
//! verifier computes the same over the branches that the kernel and the switches leave in the program. So the
//! verifier's depth is at most this one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

/// Operation codes, from the kernel's Documentation/bpf/standardization/instruction-set.rst.
mod code {
    pub(super) const LOAD_IMMEDIATE_64: u8 = 0x18;
    pub(super) const ADD_IMMEDIATE_64: u8 = 0x07;
    pub(super) const MOVE_64: u8 = 0xbf;
    pub(super) const CALL: u8 = 0x85;
    /// The low three bits: the class of the instruction.
    pub(super) const CLASS: u8 = 0x07;
    pub(super) const CLASS_LD: u8 = 0x00;
    pub(super) const CLASS_LDX: u8 = 0x01;
    pub(super) const CLASS_ST: u8 = 0x02;
    pub(super) const CLASS_STX: u8 = 0x03;
    pub(super) const CLASS_ALU: u8 = 0x04;
    pub(super) const CLASS_ALU64: u8 = 0x07;
}

/// The register that holds the frame pointer.
const FRAME: usize = 10;
/// The source register of a call to a function of the program itself, not to a helper.
const OWN_FUNCTION: usize = 1;

/// Returns bytes of stack by program.
pub(super) fn depths(object: &Path) -> Result<BTreeMap<String, u32>> {
    let content = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let file = ElfFile64::<Endianness>::parse(&*content).context("no ELF file")?;
    let mut depths = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = file.section_by_index(symbol.section_index().context("a function lies in a section")?)?;
        // A function in .text is not a program.
        if section.kind() != SectionKind::Text || section.name()? == ".text" {
            continue;
        }
        let name = symbol.name()?;
        let from = usize::try_from(symbol.address())?;
        let code = section.data()?.get(from..from + usize::try_from(symbol.size())?).context("a function's code")?;
        depths.insert(name.to_owned(), depth(code).with_context(|| name.to_owned())?);
    }
    if depths.is_empty() {
        bail!("{} holds no program", object.display());
    }
    Ok(depths)
}

/// Returns the lowest address below the frame pointer that the code of one function reaches, as a number of bytes.
fn depth(code: &[u8]) -> Result<u32> {
    let mut lowest = 0i64;
    // Registers that hold a stack address: their distance from the frame pointer.
    let mut places = [None; 16];
    places[FRAME] = Some(0i64);
    let mut instructions = code.chunks_exact(8);
    while let Some(&[op, registers, o0, o1, i0, i1, i2, i3]) = instructions.next() {
        let (to, from) = (usize::from(registers & 0xf), usize::from(registers >> 4));
        let offset = i64::from(i16::from_le_bytes([o0, o1]));
        let immediate = i64::from(i32::from_le_bytes([i0, i1, i2, i3]));
        let mut reached = |place: Option<i64>| lowest = lowest.min(place.map_or(0, |place| place + offset));
        match (op, op & code::CLASS) {
            (code::LOAD_IMMEDIATE_64, _) => {
                instructions.next();
                places[to] = None;
            }
            (code::MOVE_64, _) => places[to] = places[from],
            (code::ADD_IMMEDIATE_64, _) => {
                places[to] = places[to].map(|place| place + immediate);
                lowest = lowest.min(places[to].unwrap_or(0));
            }
            (code::CALL, _) if from == OWN_FUNCTION => bail!("it calls another function: their stacks add up"),
            (code::CALL, _) => places[..6].fill(None),
            (_, code::CLASS_LDX) => {
                reached(places[from]);
                places[to] = None;
            }
            (_, code::CLASS_ST | code::CLASS_STX) => reached(places[to]),
            (_, code::CLASS_LD | code::CLASS_ALU | code::CLASS_ALU64) => places[to] = None,
            // Jumps.
            _ => {}
        }
    }
    Ok(lowest.unsigned_abs().try_into()?)
}

#[cfg(test)]
mod tests {
    use super::depth;

    /// `op to from offset immediate`
    fn code(instructions: &[(u8, u8, u8, i16, i32)]) -> Vec<u8> {
        let bytes = |&(op, to, from, offset, immediate): &(u8, u8, u8, i16, i32)| {
            let mut bytes = vec![op, to | from << 4];
            bytes.extend(offset.to_le_bytes());
            bytes.extend(immediate.to_le_bytes());
            bytes
        };
        instructions.iter().flat_map(bytes).collect()
    }

    #[test]
    fn the_lowest_place_counts() {
        // *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -24; call 1; r0 = *(u32 *)(r10 - 16)
        let reached = [
            (0x7b, 10, 1, -8, 0),
            (0xbf, 2, 10, 0, 0),
            (0x07, 2, 0, 0, -24),
            (0x85, 0, 0, 0, 1),
            (0x61, 0, 10, -16, 0),
        ];
        assert_eq!(depth(&code(&reached)).unwrap(), 24);
        // r2 = r10; r2 += -24; *(u8 *)(r2 - 8) = 0
        let below = [(0xbf, 2, 10, 0, 0), (0x07, 2, 0, 0, -24), (0x72, 2, 0, -8, 0)];
        assert_eq!(depth(&code(&below)).unwrap(), 32);
    }

    #[test]
    fn only_the_stack_counts() {
        // r1 = 64 bits, whose second half looks like a store; r1 += -400; r3 = *(u64 *)(r6 - 300); r2 += -100
        let others = [
            (0x18, 1, 0, 0, 7),
            (0x7a, 10, 0, -500, 0),
            (0x07, 1, 0, 0, -400),
            (0x79, 3, 6, -300, 0),
            (0x07, 2, 0, 0, -100),
        ];
        assert_eq!(depth(&code(&others)).unwrap(), 0);
        assert!(depth(&code(&[(0x85, 0, 1, 0, 3)])).is_err());
    }
}
