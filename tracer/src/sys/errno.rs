//! Names of errors.

use nix::errno::Errno;

/// No such file or directory.
pub const ENOENT: i32 = nix::libc::ENOENT;
/// Not a directory.
pub const ENOTDIR: i32 = nix::libc::ENOTDIR;

/// Returns the name of an error as in `errno -l`: `ENOENT`. `E600` for an error without a name.
pub fn name(number: i32) -> String {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => format!("E{number}"),
        errno => format!("{errno:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names() {
        assert_eq!([2, 13].map(name), ["ENOENT", "EACCES"]);
        assert_eq!(name(8), "ENOEXEC");
        assert_eq!(name(11), "EAGAIN");
        assert_eq!(name(600), "E600");
    }
}
