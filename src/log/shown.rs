//! A service's bytes as text that does a terminal no harm. Pure.

/// Bytes that aren't UTF-8 become U+FFFD, control characters other than tab are shown as `^[`, or
/// as `\u{9b}` when they are not ASCII.
pub fn harmless(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        if !character.is_control() || character == '\t' {
            shown.push(character);
        } else if character.is_ascii() {
            shown.push('^');
            shown.push(char::from((character as u8) ^ 0x40));
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(harmless(b"\x1b[2Jred\x07\tx\x7f"), "^[[2Jred^G\tx^?");
        assert_eq!(harmless("\u{9b}2J \u{e9}".as_bytes()), "\\u{9b}2J \u{e9}");
        assert_eq!(harmless(b"\xff"), "\u{fffd}");
        assert!(
            !harmless(&(0..=255).collect::<Vec<u8>>())
                .chars()
                .any(|c| c.is_control() && c != '\t')
        );
    }
}
