//! The command: everything it does is in the library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;

/// The system's allocator. Where it has no memory left the process ends with a line that says so, instead of by SIGABRT.
struct OrEnd;

#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

// SAFETY: all is handed on to the system's allocator, and what that returns is returned unless it is null.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's warrant is that of the trait.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { tracer::out_of_memory(layout.size()) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() { tracer::out_of_memory(layout.size()) } else { memory }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.realloc(memory, layout, size) };
        if memory.is_null() { tracer::out_of_memory(size) } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn main() -> ExitCode {
    tracer::main()
}
