//! Takes values out of the tree, each of the type that the schema wants, and notes what is not as it must be. Whoever
//! gets `None` may put anything in its place: a problem was noted, so nothing of the manifest will be used.

use std::{fmt, ops::RangeInclusive};

use zeroize::Zeroizing;

use super::{document, nearest::nearest, problem};
use document::{Kind, Node, Value};
use problem::{Problems, element, field, shown};

/// A value, and the way to it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) path: String,
    pub(super) node: Node,
}

/// What a mapping holds that was not taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    at: usize,
    left: Vec<(String, Node)>,
    known: Vec<&'static str>,
}

impl Item {
    /// Notes a problem of this value.
    pub(super) fn wrong(&self, problems: &mut Problems, what: impl Into<String>) {
        problems.add(self.node.at, &self.path, what);
    }

    /// Notes that this is not what it must be.
    fn mistyped(&self, problems: &mut Problems, wanted: impl fmt::Display) {
        let found = match &self.node.value {
            // The problem of what cannot be read is noted.
            Value::Unreadable => return,
            Value::Scalar(Kind::Null, _) => {
                self.wrong(problems, format!("has no value; it must be {wanted}"));
                return;
            }
            Value::Scalar(Kind::Boolean, _) => "true or false",
            Value::Scalar(Kind::Number, _) => "a number",
            Value::Scalar(Kind::Text, _) => "a text",
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
        };
        self.wrong(problems, format!("must be {wanted}, not {found}"));
    }

    /// The fields of a mapping.
    pub(super) fn fields(mut self, problems: &mut Problems) -> Option<Fields> {
        match &mut self.node.value {
            Value::Mapping(fields) => {
                let left = std::mem::take(fields);
                Some(Fields { path: self.path, at: self.node.at, left, known: Vec::new() })
            }
            _ => {
                self.mistyped(problems, "a mapping (`name: value`)");
                None
            }
        }
    }

    /// The elements of a list of at most `max`.
    pub(super) fn items(mut self, max: usize, problems: &mut Problems) -> Option<Vec<Self>> {
        let Value::List(nodes) = &mut self.node.value else {
            self.mistyped(problems, "a list");
            return None;
        };
        let nodes = std::mem::take(nodes);
        if nodes.len() > max {
            self.wrong(problems, format!("has {} elements; the most is {max}", nodes.len()));
            return None;
        }
        let items = nodes.into_iter().enumerate();
        Some(items.map(|(index, node)| Self { path: element(&self.path, index), node }).collect())
    }

    /// A text that keeps `rule`.
    pub(super) fn text(
        mut self,
        rule: impl FnOnce(&str) -> Result<(), String>,
        problems: &mut Problems,
    ) -> Option<String> {
        match &mut self.node.value {
            Value::Scalar(Kind::Text, text) => match rule(text) {
                Ok(()) => Some(std::mem::take(&mut **text)),
                Err(what) => {
                    self.wrong(problems, what);
                    None
                }
            },
            Value::Scalar(Kind::Boolean | Kind::Number, _) => {
                self.mistyped(problems, "a text (in quotes)");
                None
            }
            _ => {
                self.mistyped(problems, "a text");
                None
            }
        }
    }

    /// A text, a number, or true or false, as it is written; `wanted` says what it should be.
    pub(super) fn written(
        &mut self,
        wanted: &str,
        problems: &mut Problems,
    ) -> Option<Zeroizing<String>> {
        match &mut self.node.value {
            Value::Scalar(Kind::Text | Kind::Number | Kind::Boolean, text) => {
                Some(std::mem::take(text))
            }
            _ => {
                self.mistyped(problems, wanted);
                None
            }
        }
    }

    /// True or false.
    pub(super) fn boolean(self, problems: &mut Problems) -> Option<bool> {
        match &self.node.value {
            Value::Scalar(Kind::Boolean, text) => Some(text.eq_ignore_ascii_case("true")),
            _ => {
                self.mistyped(problems, "true or false");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, range: RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Value::Scalar(Kind::Number, text) = &self.node.value else {
            self.mistyped(problems, wanted);
            return None;
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(problems, format!("must be {wanted}, not `{}`", shown(text)));
        }
        number
    }

    /// A quantity that `read` understands; `wanted` describes it with examples.
    pub(super) fn quantity<T>(
        mut self,
        read: impl FnOnce(&str) -> Option<T>,
        wanted: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.written(wanted, problems)?;
        let quantity = read(&text);
        if quantity.is_none() {
            self.wrong(problems, format!("must be {wanted}, not `{}`", shown(&text)));
        }
        quantity
    }
}

impl Fields {
    /// The field `name`, or `None` where it is left out.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Item> {
        self.known.push(name);
        let index = self.left.iter().position(|(found, _)| found == name)?;
        let (_, node) = self.left.remove(index);
        Some(Item { path: field(&self.path, name), node })
    }

    /// The field `name`, which must be there.
    pub(super) fn require(&mut self, name: &'static str, problems: &mut Problems) -> Option<Item> {
        let item = self.take(name);
        if item.is_none() {
            problems.add(self.at, &field(&self.path, name), "is missing");
        }
        item
    }

    /// Everything that is left, whatever its name.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Item)> {
        self.left.into_iter().map(move |(name, node)| {
            let path = field(&self.path, &name);
            (name, Item { path, node })
        })
    }

    /// Notes what is left as unknown.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (name, node) in &self.left {
            let hint = match nearest(name, &self.known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let what = format!("is not a field of this version ({hint})");
            problems.add(node.at, &field(&self.path, name), what);
        }
    }
}
