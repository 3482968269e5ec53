//! From text to a tree. YAML decides early what is a number and forgets how it was written; here every scalar keeps
//! its text, so that `1.10` stays `1.10` in an environment and no quantity passes through a binary fraction.
//!
//! A number is what JSON calls a number. Anchors, aliases and tags are problems: the schema is too small to need them,
//! and without them a document is never larger than it looks.

use std::{borrow::Cow, collections::BTreeSet, mem};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};
use zeroize::Zeroizing;

use super::{Manifest, problem};
use problem::Problems;

/// The deepest nesting of block collections, and of flow collections, each.
const MAX_DEPTH: usize = 16;

/// The most values in a document.
const MAX_NODES: usize = 16 << 10;

/// A value and where it begins, in characters.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    /// A single value as it is written.
    Scalar(Kind, Zeroizing<String>),
    /// Values in order.
    List(Vec<Node>),
    /// Values by their names, in order; no name occurs twice.
    Mapping(Vec<(String, Node)>),
    /// Nothing that could be read, for a problem that is noted.
    Unreadable,
}

/// What a scalar looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
}

/// Reads the one document of a text.
pub(super) fn read(text: &str, problems: &mut Problems) -> Node {
    let unreadable = || Node { at: 0, value: Value::Unreadable };
    if text.len() > Manifest::MAX_BYTES {
        let what = format!("is {} bytes long; the most is {}", text.len(), Manifest::MAX_BYTES);
        problems.add(0, "", what);
        return unreadable();
    }
    let mut builder = Builder { open: Vec::new(), root: None, nodes: 0, problems };
    for event in Parser::new_from_str_with_options(text, options()) {
        if builder.nodes > MAX_NODES {
            problems.add(0, "", format!("has more than {MAX_NODES} values"));
            return unreadable();
        }
        match event {
            Ok((event, span)) => builder.take(event, &span),
            Err(error) => {
                syntax(&error, problems);
                return unreadable();
            }
        }
    }
    match builder.root {
        Some(root) => root,
        None => {
            problems.add(0, "", "is empty");
            unreadable()
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.disallow_directives = true;
    options.emit_unresolved_aliases = true;
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options
}

fn syntax(error: &ScanError, problems: &mut Problems) {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let what = error.kind();
    problems.add(error.marker().index(), "", format!("line {line}, column {column}: {what}"));
}

/// A collection whose end was not seen yet.
#[derive(Debug)]
enum Open {
    List { at: usize, items: Vec<Node> },
    Mapping { at: usize, fields: Vec<(String, Node)>, seen: BTreeSet<String>, key: Key },
}

/// What the next node of a mapping is.
#[derive(Debug)]
enum Key {
    /// A name.
    Next,
    /// The value of this name.
    Of(String),
    /// The value of a name that is no use; it is read and forgotten.
    Forgotten,
}

#[derive(Debug)]
struct Builder<'p> {
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    problems: &'p mut Problems,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) {
        let at = span.start.index();
        if event.is_node() {
            self.nodes += 1;
            self.refuse_properties(&event, at);
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.problems.add(at, "", "holds more than one document");
            }
            Event::Scalar(text, style, ..) => {
                let kind = if style == ScalarStyle::Plain { kind(&text) } else { Kind::Text };
                self.put(at, Value::Scalar(kind, Zeroizing::new(Cow::into_owned(text))));
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => self.put(at, Value::Unreadable),
            Event::SequenceStart(..) => self.open.push(Open::List { at, items: Vec::new() }),
            Event::MappingStart(..) => self.open.push(Open::Mapping {
                at,
                fields: Vec::new(),
                seen: BTreeSet::new(),
                key: Key::Next,
            }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { at, items }) => self.put(at, Value::List(items)),
                Some(Open::Mapping { at, fields, .. }) => self.put(at, Value::Mapping(fields)),
                None => {}
            },
            _ => {}
        }
    }

    /// Anchors, aliases and tags. Their names are not repeated: a value that was meant as text may begin like one.
    fn refuse_properties(&mut self, event: &Event<'_>, at: usize) {
        let what = match event {
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                "is a YAML alias, which a manifest cannot have; put a text that begins with `*` in quotes"
            }
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(_, anchor, _)
            | Event::MappingStart(_, anchor, _)
                if *anchor != 0 =>
            {
                "has a YAML anchor, which a manifest cannot have; put a text that begins with `&` in quotes"
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                "has a YAML tag, which a manifest cannot have; put a text that begins with `!` in quotes"
            }
            _ => return,
        };
        self.problems.add(at, &self.path(), what);
    }

    /// Puts a finished value where it belongs.
    fn put(&mut self, at: usize, value: Value) {
        let path = match self.open.last() {
            Some(Open::Mapping { key: Key::Next, .. }) => self.path(),
            _ => String::new(),
        };
        match self.open.last_mut() {
            // Of a second document only the start is told.
            None if self.root.is_some() => {}
            None => self.root = Some(Node { at, value }),
            Some(Open::List { items, .. }) => items.push(Node { at, value }),
            Some(Open::Mapping { fields, seen, key, .. }) => {
                *key = match (mem::replace(key, Key::Next), value) {
                    (Key::Of(name), value) => {
                        fields.push((name, Node { at, value }));
                        Key::Next
                    }
                    (Key::Forgotten, _) => Key::Next,
                    (Key::Next, Value::Scalar(_, mut name)) => {
                        if seen.insert(name.to_string()) {
                            Key::Of(mem::take(&mut *name))
                        } else {
                            let path = problem::field(&path, &name);
                            self.problems.add(at, &path, "is given twice");
                            Key::Forgotten
                        }
                    }
                    (Key::Next, Value::List(_) | Value::Mapping(_)) => {
                        self.problems.add(at, &path, "has a name that is a list or a mapping");
                        Key::Forgotten
                    }
                    (Key::Next, Value::Unreadable) => Key::Forgotten,
                };
            }
        }
    }

    /// Where the next node goes; for a name, the mapping that it is in.
    fn path(&self) -> String {
        self.open.iter().fold(String::new(), |path, open| match open {
            Open::List { items, .. } => problem::element(&path, items.len()),
            Open::Mapping { key: Key::Of(name), .. } => problem::field(&path, name),
            Open::Mapping { .. } => path,
        })
    }
}

/// What a plain scalar is: null and truth values as in the core schema of YAML 1.2, numbers as in JSON. All the rest
/// is text.
fn kind(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Boolean,
        text if is_number(text) => Kind::Number,
        _ => Kind::Text,
    }
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?` (RFC 8259, section 6).
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (text, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && digits(fraction)
        && digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_what_json_calls_one() {
        for number in ["0", "-0", "12", "0.25", "1.10", "1e5", "1E-5", "-1.5e+3"] {
            assert_eq!(kind(number), Kind::Number, "{number}");
        }
        for text in ["", "-", "01", "+1", ".5", "1.", "1e", "1e+", "0x10", "1_000", ".inf", "1.2.3"]
        {
            assert_ne!(kind(text), Kind::Number, "{text}");
        }
    }

    #[test]
    fn only_true_and_false_are_truth_values() {
        assert_eq!(kind("True"), Kind::Boolean);
        for text in ["yes", "no", "on", "off", "y", "tRUE"] {
            assert_eq!(kind(text), Kind::Text, "{text}");
        }
    }
}
