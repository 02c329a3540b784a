//! Lines of bounded length.

use std::io::{self, BufRead, Read as _};

/// Longest line that is read. An argument list has at most 6 MiB, of which JSON makes six times as much at worst, and
/// base64 a third more.
pub(super) const MAX_LINE: usize = 64 << 20;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// Bytes after the last end of a line.
    Rest(&'a [u8]),
    /// The line is longer than [`MAX_LINE`].
    TooLong,
    /// There are no more lines.
    End,
}

/// Reads line by line.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
    max: usize,
    /// Lines read so far, the last one included.
    pub(super) number: u64,
    /// The input ended in the middle of a zstd frame.
    pub(super) torn: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new(), max: MAX_LINE, number: 0, torn: false }
    }

    pub(super) fn next(&mut self) -> io::Result<Line<'_>> {
        self.line.clear();
        match self.input.by_ref().take(self.max as u64 + 1).read_until(b'\n', &mut self.line) {
            // The decoder of zstd reports so that its input was cut.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.torn = true,
            result => _ = result?,
        }
        self.number += u64::from(!self.line.is_empty());
        Ok(match self.line.split_last() {
            None => Line::End,
            Some((b'\n', line)) => Line::Whole(line),
            Some(_) if self.line.len() > self.max => Line::TooLong,
            Some(_) => Line::Rest(&self.line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], max: usize) -> Vec<String> {
        let mut lines = Lines { max, ..Lines::new(text) };
        let mut out = Vec::new();
        loop {
            let line = format!("{:?}", lines.next().unwrap());
            let last = line == "End" || line == "TooLong";
            out.push(line);
            if last {
                return out;
            }
        }
    }

    #[test]
    fn lines_end_where_they_end_and_are_not_too_long() {
        assert_eq!(lines(b"", 9), ["End"]);
        assert_eq!(lines(b"a\n\nb", 9), ["Whole([97])", "Whole([])", "Rest([98])", "End"]);
        assert_eq!(lines(b"abc\nabcd\n", 3), ["Whole([97, 98, 99])", "TooLong"]);
        assert_eq!(lines(b"abcd", 3), ["TooLong"]);
    }
}
