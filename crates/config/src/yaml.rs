//! Reads YAML text into a tree, within bounds on its size, depth and the growth by aliases.

use std::{collections::BTreeMap, ops::Range};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};

use crate::{
    problem::Report,
    tree::{Entry, Node, Scalar, Value},
};

/// Bytes of a pipeline file.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Values in a file, with every alias counted as what it stands for.
pub(crate) const MAX_NODES: usize = 100_000;
/// Mappings and lists within one another.
pub(crate) const MAX_DEPTH: usize = 64;

/// The one document of a text. What is wrong is told to the report; `None` where nothing can be made of it.
pub(crate) fn read(text: &str, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file has {} bytes, more than the {MAX_BYTES} that are read",
            text.len()
        );
        report.error(
            "too_large",
            0..0,
            "",
            message,
            "a pipeline file is some kilobytes: is this the right file?",
        );
        return None;
    }
    if let Some(at) = text.find('\0') {
        report.error(
            "not_text",
            at..at + 1,
            "",
            "a zero byte in the text",
            "is this the right file?",
        );
        return None;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader {
        report,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
        root: None,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                let span = span.byte_range().unwrap_or(0..0);
                reader.take(event, span)?;
            }
            Err(error) => {
                syntax_error(text, &error, reader.report);
                return None;
            }
        }
    }
    let root = reader.root.take();
    if root.is_none() {
        report.error(
            "empty",
            0..0,
            "",
            "the file is empty",
            "a pipeline needs at least `name` and `telemetry`",
        );
    }
    root
}

/// A mapping or list whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// A mapping's key that waits for its value.
    key: Option<Key>,
    /// What a mapping is to take in at its end, where it has no keys of its own: the values of `<<`.
    merges: Vec<(Node, Range<usize>)>,
}

enum Key {
    Text(String, Range<usize>),
    /// `<<`, without quotes.
    Merge(Range<usize>),
    /// Not a text, which is told: its value is dropped.
    Impossible,
}

struct Reader<'r> {
    report: &'r mut Report,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Reader<'_> {
    /// Takes one event in; `None` where it is of no use to go on.
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Option<()> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let help = "keep one document, without a `---` between its parts";
                self.report
                    .error("documents", span, "", "a second document begins here", help);
                return None;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                if let Some(tag) = tag.as_deref() {
                    self.check_tag(tag, &span);
                    plain &= tag.core_suffix() != Some("str");
                }
                let scalar = Scalar {
                    text: text.into_owned(),
                    plain,
                    substituted: false,
                    unknown: false,
                };
                let node = Node {
                    span,
                    value: Value::Scalar(scalar),
                };
                self.remember(anchor, &node);
                return self.add(node, style == ScalarStyle::Plain);
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(Value::List(Vec::new()), anchor, tag.as_deref(), span),
            Event::MappingStart(_, anchor, tag) => self.begin(Value::Map(Vec::new()), anchor, tag.as_deref(), span),
            Event::SequenceEnd | Event::MappingEnd => {
                let Open {
                    mut node,
                    anchor,
                    merges,
                    ..
                } = self.open.pop()?;
                if let Value::Map(entries) = &mut node.value {
                    merges
                        .into_iter()
                        .for_each(|(value, key_span)| merge(entries, value, key_span, self.report));
                }
                node.span.end = span.end.max(node.span.end);
                self.remember(anchor, &node);
                return self.add(node, false);
            }
            Event::Alias(anchor) => {
                let Some(mut node) = self.anchors.get(&anchor).cloned() else {
                    let help = "an alias can only repeat what ended before it";
                    self.report
                        .error("alias", span, "", "an alias within the value that it stands for", help);
                    return None;
                };
                node.span = span.clone();
                self.nodes += node.count() - 1;
                return self.add(node, false);
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("nothing above is called &{name}");
                self.report.error(
                    "alias",
                    span,
                    "",
                    message,
                    "quote a text that begins with *, or define the anchor first",
                );
                return None;
            }
            _ => {}
        }
        Some(())
    }

    fn begin(&mut self, value: Value, anchor: usize, tag: Option<&Tag>, span: Range<usize>) {
        if let Some(tag) = tag {
            self.check_tag(tag, &span);
        }
        self.open.push(Open {
            node: Node { span, value },
            anchor,
            key: None,
            merges: Vec::new(),
        });
    }

    fn check_tag(&mut self, tag: &Tag, span: &Range<usize>) {
        if !tag.is_yaml_core_schema() {
            let message = format!("the tag {} has no meaning here", tag.original());
            self.report.error(
                "tag",
                span.clone(),
                "",
                message,
                "remove it; quote a text that begins with !",
            );
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    /// A value is complete: it goes into whatever is open.
    fn add(&mut self, node: Node, plain_scalar: bool) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, counting what aliases repeat");
            self.report.error(
                "too_large",
                node.span,
                "",
                message,
                "write less, or use fewer aliases of aliases",
            );
            return None;
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some(key_of(node, plain_scalar, self.report)),
                Some(Key::Text(key, key_span)) => insert(entries, key, key_span, node, self.report),
                Some(Key::Merge(key_span)) => open.merges.push((node, key_span)),
                Some(Key::Impossible) => {}
            },
            Value::Scalar(_) => {}
        }
        Some(())
    }
}

fn key_of(node: Node, plain: bool, report: &mut Report) -> Key {
    match node.value {
        Value::Scalar(scalar) if plain && scalar.text == "<<" => Key::Merge(node.span),
        Value::Scalar(scalar) => Key::Text(scalar.text, node.span),
        _ => {
            let help = "write a text before the colon; a value that begins with { or [ may need quotes";
            report.error("key", node.span, "", "a key that is itself a mapping or list", help);
            Key::Impossible
        }
    }
}

fn insert(entries: &mut Vec<Entry>, key: String, key_span: Range<usize>, value: Node, report: &mut Report) {
    if entries.iter().any(|entry| entry.key == key) {
        let help = "keep one of the two: a mapping has each key once";
        report.error(
            "duplicate_key",
            key_span,
            key.clone(),
            format!("`{key}` is given twice"),
            help,
        );
    } else {
        entries.push(Entry { key, key_span, value });
    }
}

/// `<<: *base`, or a list of such: their entries, where the mapping has none of its own.
fn merge(entries: &mut Vec<Entry>, value: Node, key_span: Range<usize>, report: &mut Report) {
    let sources = match value.value {
        Value::List(items) => items,
        other => vec![Node {
            span: value.span,
            value: other,
        }],
    };
    for source in sources {
        let Value::Map(more) = source.value else {
            let help = "write an alias of a mapping, or a list of such aliases";
            report.error("merge", key_span.clone(), "", "`<<` merges mappings only", help);
            continue;
        };
        for entry in more {
            if !entries.iter().any(|known| known.key == entry.key) {
                entries.push(entry);
            }
        }
    }
}

/// A text that is no YAML: where, and what people usually meant.
fn syntax_error(text: &str, error: &ScanError, report: &mut Report) {
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let line_start = text
        .get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |newline| newline + 1);
    if let Some(tab) = tab_in_indentation(text, line_start) {
        let help = "YAML is indented with spaces only: replace the tab";
        report.error("tab", tab..tab + 1, "", "a tab in the indentation", help);
        return;
    }
    let line = text
        .get(line_start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    let help = if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        "lists and mappings may stand at most 64 deep in one another"
    } else if error.info().contains("quoted") {
        "close the quotes that begin above: \" or '"
    } else if line.contains("${") {
        "put the value in quotes: ${…} has braces, which mean a mapping within { } or [ ]"
    } else if line.contains('\t') {
        "there is a tab in this line: YAML is indented with spaces only"
    } else if line.matches(": ").count() > 1 {
        "put a value that contains `: ` in quotes"
    } else {
        "check the indentation, quotes and brackets here and in the line above"
    };
    report.error(
        "syntax",
        at..at + 1,
        "",
        format!("this is not YAML: {}", error.info()),
        help,
    );
}

/// The first tab among the white space that begins the line at which the reader stopped, or one of its neighbours.
fn tab_in_indentation(text: &str, line_start: usize) -> Option<usize> {
    let before = text
        .get(..line_start.saturating_sub(1))
        .and_then(|t| t.rfind('\n'))
        .map_or(0, |newline| newline + 1);
    let after = text
        .get(line_start..)
        .and_then(|t| t.find('\n'))
        .map(|newline| line_start + newline + 1);
    [Some(line_start), Some(before), after]
        .into_iter()
        .flatten()
        .find_map(|start| {
            let line = text.get(start..)?.lines().next()?;
            let indent = line.find(|c| c != ' ' && c != '\t').unwrap_or(line.len());
            line.get(..indent)?.find('\t').map(|tab| start + tab)
        })
}
