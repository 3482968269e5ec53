//! Where a user's document is not understood, without a word of it: what was named by mistake may be a file with a key.

use std::borrow::Cow;

use serde_json::error::Category;

/// What parsers say before they quote. Nothing else of their words is repeated.
const KINDS: [&str; 8] = [
    "unknown field",
    "unknown variant",
    "duplicate field",
    "duplicate key",
    "invalid type",
    "invalid value",
    "invalid length",
    "trailing characters",
];

/// Where a document is not understood, and what kind of mistake it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: Cow<'static, str>,
}

impl SyntaxError {
    /// What a parser of TOML says of `text`.
    pub fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = &text.as_bytes()[..at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = at - line_start + 1;
        Self { line, column, kind: kind_of(error.message(), "it is no TOML") }
    }

    /// What a parser of JSON says.
    pub fn of_json(error: &serde_json::Error) -> Self {
        let kind = match error.classify() {
            Category::Data => kind_of(&error.to_string(), "it does not have the form expected"),
            Category::Eof => "it ends too early".into(),
            Category::Syntax | Category::Io => "it is no JSON".into(),
        };
        Self { line: error.line(), column: error.column(), kind }
    }
}

/// The name of a field that is missing is a word of this program, and none of the document.
fn kind_of(message: &str, otherwise: &'static str) -> Cow<'static, str> {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    if let Some((name, _)) = missing {
        return format!("field `{name}` is missing").into();
    }
    let known = KINDS.into_iter().find(|kind| message.starts_with(kind));
    known.unwrap_or(otherwise).into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[expect(dead_code, reason = "only whether it is there counts")]
        name: u32,
    }

    #[test]
    fn a_key_is_not_repeated_wherever_it_stands() {
        let bare = KEY.trim_start_matches("0x");
        for text in [
            format!("{KEY}\n"),
            format!("{bare} = 1"),
            format!("name = {KEY}"),
            format!("name = '{KEY}'"),
            format!("[{bare}]"),
            format!("name = 1\n{bare} = 1\n{bare} = 1"),
            format!("'{KEY}"),
        ] {
            let error = toml::from_str::<Document>(&text).unwrap_err();
            let said = SyntaxError::of_toml(&error, &text).to_string();
            assert!(!said.contains(&bare[..6]), "{text}: {said}");
        }
        for text in [
            KEY.to_owned(),
            format!("\"{KEY}\""),
            format!("{{\"{KEY}\": 1}}"),
            format!("{{\"name\": \"{KEY}\"}}"),
            format!("[\"{KEY}\"]"),
            bare.to_owned(),
        ] {
            let error = serde_json::from_str::<Document>(&text).unwrap_err();
            let said = SyntaxError::of_json(&error).to_string();
            assert!(!said.contains(&bare[..6]), "{text}: {said}");
        }
    }

    #[test]
    fn the_place_and_the_kind_are_said() {
        let text = "name = 1\n  other = 2";
        let error = toml::from_str::<Document>(text).unwrap_err();
        let said = SyntaxError::of_toml(&error, text).to_string();
        assert_eq!(said, "line 2, column 3: unknown field");
        let error = serde_json::from_str::<Document>("{\n}").unwrap_err();
        let said = SyntaxError::of_json(&error).to_string();
        assert_eq!(said, "line 2, column 1: field `name` is missing");
        let error = serde_json::from_str::<Document>("{").unwrap_err();
        assert_eq!(SyntaxError::of_json(&error).kind, "it ends too early");
    }
}
