//! The constants handed over at load time, and loads from kernel memory at their offsets.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use tracer_common::config::Config;
use tracer_common::offsets::{ABSENT, Offsets};

/// Where the members are in the running kernel.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// What is asked for.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::DEFAULT;

/// An offset. Read volatile, or the compiler would fold the placeholder in.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::constant(&raw const $crate::kernel::OFFSETS.$field)
    };
}

/// A setting.
macro_rules! config {
    ($field:ident) => {
        $crate::kernel::constant(&raw const $crate::kernel::CONFIG.$field)
    };
}

pub(crate) use {config, offset};

#[inline(always)]
pub fn constant(at: *const u32) -> u32 {
    // SAFETY: `at` points into one of the statics above.
    unsafe { read_volatile(at) }
}

/// A pointer into the kernel that the verifier knows by its BTF type: loads through it need no helper,
/// and a bad one reads as zero instead of faulting.
#[derive(Clone, Copy)]
pub struct Typed(pub *const u8);

impl Typed {
    /// The value at `offset`, zero if this kernel has no such member.
    ///
    /// # Safety
    /// `T` is an integer of the member's size.
    #[inline(always)]
    pub unsafe fn load<T: Copy + Default>(self, offset: u32) -> T {
        if offset == ABSENT {
            return T::default();
        }
        unsafe { read_volatile(self.0.add(offset as usize).cast::<T>()) }
    }

    /// The pointer at `offset`, null if this kernel has no such member.
    ///
    /// # Safety
    /// The member is a pointer to a structure.
    #[inline(always)]
    pub unsafe fn follow(self, offset: u32) -> Self {
        if offset == ABSENT {
            return Self(core::ptr::null());
        }
        Self(unsafe { read_volatile(self.0.add(offset as usize).cast::<*const u8>()) })
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The address as a number, for reads by helper.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}

/// The value at an address that the verifier knows nothing of; zero if it cannot be read.
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper reads any address; where it cannot, it leaves zeroes and an error that says the same. So it
    // always fills the value. No branch on that error: each would double the verifier's work.
    unsafe {
        let from = (address + u64::from(offset)) as *const c_void;
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        value.assume_init()
    }
}
