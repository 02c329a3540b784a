//! Names of terminals from their device numbers, as `ps` shows them.

/// Bits of the minor number in a `dev_t` of the kernel (`MINORBITS`, include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;

/// Returns a device number in the kernel's form: `(major << 20) | minor` (`MKDEV`).
pub const fn mkdev(major: u32, minor: u32) -> u32 {
    (major << MINOR_BITS) | (minor & ((1 << MINOR_BITS) - 1))
}

/// Converts a device number from field 7 of `/proc/PID/stat`, where the minor number surrounds the major one
/// (`new_encode_dev`, include/linux/kdev_t.h).
pub const fn from_proc_stat(tty_nr: u32) -> u32 {
    mkdev((tty_nr & 0xfff00) >> 8, (tty_nr & 0xff) | ((tty_nr >> 12) & 0xf_ff00))
}

/// Returns the name of a terminal without `/dev/`: `pts/0`, `tty1`, `ttyS0`. For an unknown driver it is `major:minor`.
/// `None` for 0, which is no terminal.
///
/// The numbers are assigned in Documentation/admin-guide/devices.txt.
pub fn name(dev: u32) -> Option<String> {
    let (major, minor) = (dev >> MINOR_BITS, dev & ((1 << MINOR_BITS) - 1));
    Some(match (major, minor) {
        (0, 0) => return None,
        (3, 0..=255) => {
            let bank = b"pqrstuvwxyzabcde"[(minor >> 4) as usize] as char;
            format!("tty{bank}{:x}", minor & 0xf)
        }
        (4, 0..=63) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 0) => "tty".to_owned(),
        (5, 1) => "console".to_owned(),
        (136..=143, _) => format!("pts/{}", ((major - 136) << 8) + minor),
        (166, _) => format!("ttyACM{minor}"),
        (188, _) => format!("ttyUSB{minor}"),
        (204, 64..=79) => format!("ttyAMA{}", minor - 64),
        (229, _) => format!("hvc{minor}"),
        _ => format!("{major}:{minor}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_named_as_ps_names_them() {
        for (major, minor, expected) in [
            (4, 1, "tty1"),
            (4, 63, "tty63"),
            (4, 64, "ttyS0"),
            (5, 0, "tty"),
            (5, 1, "console"),
            (136, 0, "pts/0"),
            (136, 255, "pts/255"),
            (136, 300, "pts/300"),
            (137, 1, "pts/257"),
            (3, 0x1f, "ttyqf"),
            (204, 64, "ttyAMA0"),
            (229, 0, "hvc0"),
            (200, 3, "200:3"),
        ] {
            assert_eq!(name(mkdev(major, minor)).as_deref(), Some(expected));
        }
        assert_eq!(name(0), None);
    }

    #[test]
    fn both_encodings_name_the_same_terminal() {
        // `new_encode_dev`: (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)
        for (major, minor) in [(136, 0), (136, 300), (4, 1), (4, 65), (136, 0xf_ffff)] {
            let printed = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
            assert_eq!(from_proc_stat(printed), mkdev(major, minor), "{major}:{minor}");
        }
        assert_eq!(from_proc_stat(0), 0);
    }
}
