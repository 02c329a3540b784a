//! Constants that user space sets at load time, and reads of kernel memory at these offsets.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use tracer_common::config::Config;
use tracer_common::offsets::{ABSENT, Offsets};

/// Offsets of the members in the running kernel.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::NONE;

/// What to report.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config::DEFAULT;

/// An offset. The read is volatile, because otherwise the compiler would use the placeholder.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::constant(&$crate::kernel::OFFSETS.$field)
    };
}

/// A setting.
macro_rules! config {
    ($field:ident) => {
        $crate::kernel::constant(&$crate::kernel::CONFIG.$field)
    };
}

pub(crate) use {config, offset};

/// The return value of a program on a trace event. With 0 the kernel would hide the event from all other users, such as `perf`
/// ([`perf_trace_run_bpf_submit`]).
///
/// [`perf_trace_run_bpf_submit`]: https://github.com/torvalds/linux/blob/7d0a66e4bb9081d75c82ec4957c50034cb0ea449/kernel/events/core.c
pub(crate) const PASS_ON: u32 = 1;

#[inline(always)]
pub(crate) fn constant(at: &'static u32) -> u32 {
    // SAFETY: a reference is valid for reads.
    unsafe { read_volatile(at) }
}

/// A type for which any bytes are a valid value.
///
/// # Safety
/// Every bit pattern of the type's size is a value of it.
pub(crate) unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($type:ty),+) => {
        // SAFETY: any bytes are an integer, or integers.
        $(unsafe impl Plain for $type {})+
    };
}

plain!(u8, u16, u32, u64, i32, [u8; 16], [u64; 2], [u64; 3]);

/// A pointer into the kernel that the verifier knows by its BTF type. Loads through it need no helper, and a bad pointer
/// reads as zero instead of faulting.
#[derive(Clone, Copy)]
pub(crate) struct Typed(*const u8);

impl Typed {
    pub(crate) const NULL: Self = Self(core::ptr::null());

    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Returns the value at `offset`, zero if this kernel has no such member. The verifier refuses the program unless a
    /// member of this size begins there.
    #[inline(always)]
    pub(crate) fn load<T: Plain>(self, offset: u32) -> T {
        if offset == ABSENT {
            return T::default();
        }
        // SAFETY: the verifier proves that the pointer has a BTF type and that the load stays within a member of it. The
        // kernel's exception table turns a fault into zero, and any bytes are a `T`.
        unsafe { read_volatile(self.0.add(offset as usize).cast::<T>()) }
    }

    /// Returns the pointer at `offset`, null if this kernel has no such member. The verifier refuses the program unless a
    /// pointer to a structure begins there.
    #[inline(always)]
    #[expect(clippy::cast_ptr_alignment, reason = "the kernel aligns its pointers, and BPF reads them at any address")]
    pub(crate) fn follow(self, offset: u32) -> Self {
        if offset == ABSENT {
            return Self::NULL;
        }
        // SAFETY: as in `load`.
        Self(unsafe { read_volatile(self.0.add(offset as usize).cast::<*const u8>()) })
    }

    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Returns the pointer, for helpers that take one of its type.
    #[inline(always)]
    pub(crate) fn as_mut_ptr<T>(self) -> *mut T {
        self.0.cast_mut().cast()
    }

    /// Returns the address as a number, for reads by helper.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }
}

/// Returns the value at an address of which the verifier knows nothing. Zero if it cannot be read.
#[inline(always)]
pub(crate) fn read<T: Plain>(address: u64, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper takes any address. If it cannot read, it writes zeroes and returns an error. So the value is
    // always initialised. Any bytes are a `T`. There is no branch on that error: each would double the verifier's work.
    unsafe {
        let from = (address + u64::from(offset)) as *const c_void;
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        value.assume_init()
    }
}

/// Returns the value at an address of the running program. `None` if it cannot be read.
#[inline(always)]
pub(crate) fn read_user<T: Plain>(address: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper takes any address and writes the size of the value. Any bytes are a `T`.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut value).cast(), size_of::<T>() as u32, address as *const c_void) };
    if failed == 0 { Some(value) } else { None }
}
