//! What a process that lives as long as the machine keeps in memory: the C library's heap, which is
//! Rust's allocator, and the program itself.
#![allow(unsafe_code)]

/// Above what is in use, in bytes: asked of the kernel at once, and kept when it could go back.
#[cfg(target_env = "gnu")]
const SPARE_BYTES: i32 = 16 * 1024;
/// Of a page, on every processor that we build for; a larger one is refused, and nothing happens.
const PAGE_BYTES: usize = 4096;

/// Gives pages that hold nothing any more back to the kernel (malloc_trim(3)): for after a burst.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the library looks after its own heap, under its own locks; no memory is passed.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// For a process that needs little (mallopt(3)). By default small pieces that were freed are not
/// joined before the heap's end is reached, so each start of a service would touch some fresh memory,
/// as far as it goes.
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these set numbers of the library's own, under its own locks; no memory is passed.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
        libc::mallopt(libc::M_TOP_PAD, SPARE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * SPARE_BYTES);
    }
}

/// Lets go of the program's own pages, after what is done only once; those that are needed again come
/// back from the file one by one (MADV_DONTNEED, madvise(2)).
pub fn let_go_of_program() {
    // SAFETY: both are names that the linker defines (`__executable_start` and `etext`, end(3)); nothing
    // is ever read from there, only their addresses are asked for.
    unsafe extern "C" {
        safe static __executable_start: u8;
        safe static etext: u8;
    }
    let start = (&raw const __executable_start).addr() & !(PAGE_BYTES - 1);
    let bytes = (&raw const etext).addr().saturating_sub(start);
    let start = std::ptr::without_provenance_mut(start);
    // SAFETY: between the two lie the program's constants and its code, mapped from its file for us
    // alone and never written to. So a page that is let go of comes back as it was.
    unsafe {
        libc::madvise(start, bytes, libc::MADV_DONTNEED);
    }
}
