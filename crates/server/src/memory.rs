//! How the program's memory is managed. The rules of it only a whole program can choose.

/// Keeps freed memory for whoever needs it next, instead of some of it for each thread. To be called
/// before there are other threads.
///
/// glibc has a heap for each of up to eight threads a core, and what one of them freed the others do
/// not get; threads that wait for disks are many here, and seldom busy at once. It also keeps memory
/// that was freed in a large piece, such as the 19 MiB of a password's hash, for another such piece.
/// Other systems have neither habit.
pub fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// What is larger has pages of its own, which go back when it is freed; to say it keeps glibc
        /// from raising it. Pieces of files that pass through the store are smaller: new pages for each
        /// would cost more than what is in them.
        const PAGES_OF_ITS_OWN: i32 = 1024 * 1024;
        for (what, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, PAGES_OF_ITS_OWN)] {
            #[expect(unsafe_code, reason = "no safe wrapper sets how memory is managed")]
            // SAFETY: it sets a number in the allocator, which locks itself meanwhile.
            let set = unsafe { libc::mallopt(what, value) };
            // The program runs without it, only larger.
            debug_assert_eq!(set, 1);
        }
    }
}

/// Gives memory back that is free. For when something is over that took much and will not come again soon,
/// such as the start, and with it the migrations.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "no safe wrapper asks for this")]
        // SAFETY: it only looks at what the allocator itself knows to be free, and locks itself meanwhile.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}
