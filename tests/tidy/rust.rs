//! Just enough of Rust's grammar for the rules: words, signs and comments with their lines.
//!
//! What stands in a string or a comment is never taken for code, and code under `#[cfg(test)]`
//! can be left out. It does not expand macros; what a macro makes of its input goes unseen.

use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// One sign, or several that only mean something together (`::`, `->`, `+=`).
    Sign,
    Literal,
    Lifetime,
    Comment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    /// Counted from 1; of the token's first character.
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text && matches!(self.kind, Kind::Word | Kind::Sign)
    }

    pub fn is_word(&self) -> bool {
        self.kind == Kind::Word
    }
}

/// Signs of more than one character, longest first. `>>` is left out: it mostly ends generics.
const SIGNS: [&str; 20] = [
    "<<=", ">>=", "..=", "...", "::", "->", "=>", "==", "!=", "<=", ">=", "&&", "||", "+=", "-=",
    "*=", "/=", "%=", "<<", "..",
];

/// Everything, comments included.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader {
        rest: source,
        line: 1,
        found: Vec::new(),
    };
    while !reader.rest.is_empty() {
        reader.next();
    }
    reader.found
}

/// Code only.
pub fn code(source: &str) -> Vec<Token> {
    tokens(source)
        .into_iter()
        .filter(|token| token.kind != Kind::Comment)
        .collect()
}

/// Code without the items under `#[cfg(test)]`.
pub fn shipped(source: &str) -> Vec<Token> {
    split(source).0
}

/// The items under `#[cfg(test)]` only.
pub fn tested(source: &str) -> Vec<Token> {
    split(source).1
}

fn split(source: &str) -> (Vec<Token>, Vec<Token>) {
    let all = code(source);
    let (mut ships, mut tests, mut at) = (Vec::new(), Vec::new(), 0);
    while at < all.len() {
        let end = if begins(&all[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            item_end(&all, at + 7)
        } else {
            at
        };
        if end > at {
            tests.extend_from_slice(&all[at..end]);
            at = end;
        } else {
            ships.push(all[at].clone());
            at += 1;
        }
    }
    (ships, tests)
}

pub fn begins(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.is(word))
}

/// Past the item that starts at `at`: its closing brace, or its semicolon.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            _ if token.kind != Kind::Sign => {}
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return place + 1;
                }
            }
            ";" if depth == 0 => return place + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Every path that starts with one of `heads`, with groups and nesting written out:
/// `use crate::{os, ipc::wire::{A, B}}` gives `crate::os`, `crate::ipc::wire::A` and `..::B`.
pub fn paths(tokens: &[Token], heads: &BTreeSet<String>) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let starts = token.is_word() && heads.contains(&token.text);
        let continues = at > 0 && tokens[at - 1].is("::");
        let leads_on = tokens.get(at + 1).is_some_and(|next| next.is("::"));
        if starts && !continues && leads_on {
            let mut ends = Vec::new();
            follow(tokens, at, Vec::new(), &mut ends);
            found.extend(ends.into_iter().map(|path| (token.line, path)));
        }
    }
    found
}

/// Reads one branch of a use tree; gives the place after it.
fn follow(
    tokens: &[Token],
    mut at: usize,
    mut path: Vec<String>,
    ends: &mut Vec<Vec<String>>,
) -> usize {
    loop {
        match tokens.get(at) {
            Some(token) if token.is_word() || token.is("*") => path.push(token.text.clone()),
            Some(token) if token.is("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| !token.is("}")) {
                    let before = at;
                    at = follow(tokens, at, path.clone(), ends);
                    if begins(&tokens[at..], &["as"]) {
                        at += 2;
                    }
                    if begins(&tokens[at..], &[","]) || at == before {
                        at += 1;
                    }
                }
                return at + 1;
            }
            _ => {
                ends.push(path);
                return at;
            }
        }
        if !tokens.get(at + 1).is_some_and(|token| token.is("::")) {
            ends.push(path);
            return at + 1;
        }
        at += 2;
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    found: Vec<Token>,
}

impl Reader<'_> {
    fn next(&mut self) {
        let first = self.rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(Kind::Comment, end);
        } else if self.rest.starts_with("/*") {
            self.take(Kind::Comment, block_comment(self.rest));
        } else if let Some(end) = text_literal(self.rest) {
            self.take(Kind::Literal, end);
        } else if first == '\'' {
            let (kind, end) = quote(self.rest);
            self.take(kind, end);
        } else if first.is_ascii_digit() {
            self.take(Kind::Literal, number(self.rest));
        } else if first.is_alphabetic() || first == '_' {
            self.take(Kind::Word, word(self.rest));
        } else {
            let several = SIGNS.iter().find(|sign| self.rest.starts_with(**sign));
            self.take(
                Kind::Sign,
                several.map_or(first.len_utf8(), |sign| sign.len()),
            );
        }
    }

    fn take(&mut self, kind: Kind, bytes: usize) {
        let text = self.rest[..bytes].to_owned();
        self.found.push(Token {
            kind,
            text,
            line: self.line,
        });
        self.skip(bytes);
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len())
}

/// `1_000u32`, `0xff`, `1.5`; the dots of `0..4` are not part of it.
fn number(rest: &str) -> usize {
    let whole = word(rest);
    let fraction = rest[whole..].strip_prefix('.');
    match fraction {
        Some(after) if after.starts_with(|c: char| c.is_ascii_digit()) => whole + 1 + word(after),
        _ => whole,
    }
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// `"..."`, `b"..."`, `c"..."`, `r#"..."#` and their kind.
fn text_literal(rest: &str) -> Option<usize> {
    let prefix = rest.find(['"', '#', '\'']).unwrap_or(rest.len());
    if !matches!(&rest[..prefix], "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    let raw = rest[..prefix].ends_with('r');
    let hashes = if raw {
        rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len()
    } else {
        0
    };
    let open = prefix + hashes;
    if !rest[open..].starts_with('"') {
        return None;
    }
    let body = open + 1;
    if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(
            rest[body..]
                .find(&close)
                .map_or(rest.len(), |end| body + end + close.len()),
        );
    }
    let mut escaped = false;
    for (at, c) in rest[body..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(body + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// A character or a lifetime: `'a'`, `'\n'`, `'a`.
fn quote(rest: &str) -> (Kind, usize) {
    let mut characters = rest.char_indices().skip(1);
    let first = characters.next().map(|(_, c)| c);
    if first == Some('\\') {
        let end = rest[3.min(rest.len())..]
            .find('\'')
            .map_or(rest.len(), |end| 3 + end + 1);
        return (Kind::Literal, end);
    }
    match characters.next() {
        Some((at, '\'')) => (Kind::Literal, at + 1),
        _ => (Kind::Lifetime, 1 + word(&rest[1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        code(source)
            .into_iter()
            .filter(Token::is_word)
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn strings_comments_and_characters_are_not_code() {
        let source = r##"a "b \" c" r#"d " e"# /* f /* g */ h */ 'i' '\'' b"j" k // l"##;
        assert_eq!(words(source), ["a", "k"]);
    }

    #[test]
    fn a_lifetime_does_not_open_a_character() {
        assert_eq!(words("fn a<'b>(c: &'b str) {}"), ["fn", "a", "c", "str"]);
    }

    #[test]
    fn lines_are_counted_through_strings() {
        let found = code("a\n\"x\ny\"\nb");
        assert_eq!(found.last().map(|token| token.line), Some(4));
    }

    #[test]
    fn the_test_part_is_told_from_the_rest() {
        let source = "use a; #[cfg(test)] mod tests { fn b() { c } } fn d() {}";
        let left: Vec<_> = shipped(source)
            .into_iter()
            .map(|token| token.text)
            .collect();
        assert_eq!(left.join(" "), "use a ; fn d ( ) { }");
        assert!(tested(source).iter().any(|token| token.is("c")));
    }

    #[test]
    fn use_trees_are_written_out() {
        let heads = BTreeSet::from(["crate".to_owned()]);
        let source =
            "use crate::{os::{self as o, step::Step}, ipc::wire}; let x = crate::sys::a();";
        let found = paths(&code(source), &heads);
        let found: Vec<_> = found.iter().map(|(_, path)| path.join("::")).collect();
        assert_eq!(
            found,
            [
                "crate::os::self",
                "crate::os::step::Step",
                "crate::ipc::wire",
                "crate::sys::a"
            ]
        );
    }
}
