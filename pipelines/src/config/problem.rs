//! What is wrong with a configuration, with its line, a caret and the remedy; without secrets.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Something that is wrong. Its text holds no value of a key that may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    file: PathBuf,
    place: Option<Place>,
    what: String,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// From 1.
    line: usize,
    /// From 1, in letters of the file.
    column: usize,
    /// The line without secrets.
    shown: String,
    /// Where the caret stands and how long it is, in letters of what is shown.
    caret: (usize, usize),
}

/// Problems in one text.
pub fn told(problems: &[Problem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("\n\n")
}

impl Problem {
    /// The file cannot be read.
    pub fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self { file: file.to_owned(), place: None, what: error.to_string() }
    }

    /// What toml or serde say.
    pub fn of_syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let place = error.span().map(|span| Place::new(text, span));
        Self { file: file.to_owned(), place, what: words(error.message()) }
    }

    /// The value that `keys` lead to is wrong.
    pub fn of_value(file: &Path, text: &str, keys: &[String], what: &str) -> Self {
        let place = find(text, keys).map(|span| Place::new(text, span));
        let what =
            if keys.is_empty() { what.to_owned() } else { format!("{}: {what}", keys.join(".")) };
        Self { file: file.to_owned(), place, what }
    }

    /// What is wrong, without the place.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let Some(Place { line, column, shown, caret: (begin, length) }) = &self.place else {
            return write!(f, "{file}: {}", self.what);
        };
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "{file}:{line}:{column}: {}", self.what)?;
        writeln!(f, "{margin} |\n{line} | {shown}")?;
        write!(f, "{margin} | {}{}", " ".repeat(*begin), "^".repeat(*length))
    }
}

impl Place {
    fn new(text: &str, span: Range<usize>) -> Self {
        // A span may reach the end of the text, and lie inside a letter where the text is broken
        // there.
        let start = (0..=span.start.min(text.len()))
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let line = text[begin..end].trim_end_matches('\r');
        let mark = (start - begin).min(line.len())
            ..span.end.clamp(start, end).saturating_sub(begin).min(line.len());
        let mut shown = String::new();
        let mut caret = (None, 0);
        let mut done = 0;
        for secret in secrets(line) {
            copy(&line[done..secret.start], done, &mark, &mut shown, &mut caret);
            if mark.start < secret.end && mark.end > secret.start {
                caret.0.get_or_insert(shown.chars().count());
                caret.1 = shown.chars().count() + 3;
            }
            shown.push_str("***");
            done = secret.end;
        }
        copy(&line[done..], done, &mark, &mut shown, &mut caret);
        let first = caret.0.unwrap_or_else(|| shown.chars().count());
        Self {
            line: text[..begin].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            caret: (first, caret.1.saturating_sub(first).max(1)),
            shown,
        }
    }
}

/// Copies a part of a line that begins at `offset`, and notes where in `shown` the mark begins and
/// ends.
fn copy(
    part: &str,
    offset: usize,
    mark: &Range<usize>,
    shown: &mut String,
    caret: &mut (Option<usize>, usize),
) {
    for (at, letter) in part.char_indices() {
        let length = shown.chars().count();
        if mark.contains(&(offset + at)) || (mark.is_empty() && mark.start == offset + at) {
            caret.0.get_or_insert(length);
            caret.1 = length + 1;
        }
        shown.push(if letter.is_control() { ' ' } else { letter });
    }
}

/// Keys whose values are shown. What is not named here may hold a secret, as under a key that is
/// misspelt.
const SHOWN: [&str; 38] = [
    "listen",
    "model",
    "engine",
    "precision",
    "preset",
    "input-size",
    "input-scale",
    "gpu-id",
    "insecure",
    "transport",
    "decoder",
    "timeout",
    "rate",
    "rate-limit",
    "scale",
    "smoothing",
    "skip-unchanged",
    "levels",
    "moderate",
    "dense",
    "jammed",
    "regions",
    "regions-file",
    "name",
    "polygon",
    "detail",
    "certificate",
    "env",
    "file",
    "keep-days",
    "keep-megabytes",
    "ca-file",
    "records",
    "windows",
    "home-assistant",
    "max-file-size",
    "max-file-duration",
    "max-files",
];

/// The parts of a line that may hold secrets, in their order: values of keys that are not
/// [`SHOWN`], remarks, and what is neither key nor value.
fn secrets(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut hide = |part: Range<usize>, is_harmless: bool| {
        if !is_harmless && !line[part.clone()].trim().is_empty() {
            found.push(part);
        }
    };
    let mut at = 0;
    while let Some(equals) = line[at..].find('=').map(|length| at + length) {
        let begin =
            at + line[at..equals].rfind(['{', ',', '[', '.']).map_or(0, |length| length + 1);
        let before = &line[at..begin];
        hide(
            at..begin,
            before.chars().all(is_punctuation) || (at == 0 && before.chars().all(is_of_path)),
        );
        let key = line[begin..equals].trim();
        hide(begin..equals, !key.contains(char::is_whitespace));
        let is_shown = SHOWN.contains(&key.trim_matches(['"', '\'']));
        let value = line.len() - line[equals + 1..].trim_start().len();
        let rest = &line[value..];
        let stop = |from: usize| {
            rest[from..].find([',', '}', '#']).map_or(rest.len(), |length| from + length)
        };
        let length = match rest.chars().next() {
            // What is inside has keys of its own.
            Some('{') => 1,
            Some('[') if is_shown => 1,
            Some('[') => rest.len(),
            Some(quote @ ('"' | '\'')) if is_shown => quoted(rest, quote),
            Some(quote @ ('"' | '\'')) => stop(quoted(rest, quote)),
            // Without quotes a secret may go on to the end.
            _ if is_shown => stop(0),
            _ => rest.len(),
        };
        at = value + length;
        hide(value..at, is_shown || rest.starts_with('{'));
    }
    if at == 0 && line.starts_with('[') {
        at = line.find('#').unwrap_or(line.len());
        hide(0..at, line[..at].chars().all(|letter| is_of_path(letter) || is_punctuation(letter)));
    }
    hide(at..line.len(), line[at..].chars().all(is_punctuation));
    found
}

/// What stands around keys and values, and numbers.
fn is_punctuation(letter: char) -> bool {
    letter.is_ascii_digit() || letter.is_whitespace() || "[]{},.-+".contains(letter)
}

/// Of the names of tables.
fn is_of_path(letter: char) -> bool {
    letter.is_alphanumeric() || "_-.\"'".contains(letter)
}

/// The length of the quoted text at the start of `rest`, to the end of the line where the quote is
/// not closed.
fn quoted(rest: &str, quote: char) -> usize {
    if rest[1..].starts_with(&[quote, quote].iter().collect::<String>()) {
        return rest.len();
    }
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            letter if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Where the value of `keys` stands: the key itself of a table, and of the nearest table where
/// there is no value.
fn find(text: &str, keys: &[String]) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut span = None;
    for key in keys {
        let Some((name, value)) = table.iter().find(|(name, _)| &**name.get_ref() == key.as_str())
        else {
            break;
        };
        match value.get_ref() {
            DeValue::Table(inner) => {
                span = Some(name.span());
                table = inner;
            }
            DeValue::Array(_) => return Some(name.span()),
            _ => return Some(value.span()),
        }
    }
    span
}

/// serde's and toml's words in ours.
fn words(message: &str) -> String {
    let message = message.trim().replace('\n', ", ");
    let ticked: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    if let (true, Some((name, known))) =
        (message.starts_with("unknown field"), ticked.split_first())
    {
        return unknown("key", name, known);
    }
    if let (true, Some((name, known))) =
        (message.starts_with("unknown variant"), ticked.split_first())
    {
        return unknown("value", name, known);
    }
    if let (true, Some(name)) = (message.starts_with("missing field"), ticked.first()) {
        return format!("the key {name} is missing");
    }
    // The value itself stands in the line, where it may be shown.
    for head in ["invalid type: ", "invalid value: "] {
        let Some((found, expected)) =
            message.strip_prefix(head).and_then(|rest| rest.rsplit_once(", expected "))
        else {
            continue;
        };
        let kind = found.split(['"', '`']).next().unwrap_or_default().trim();
        let expected = match expected {
            "f64" => "a number",
            "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number",
            other => other,
        };
        return format!("{kind} where {expected} is expected");
    }
    message
}

/// An unknown word, and what may have been meant.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let distance = |word: &&&str| {
        let akin = word.starts_with(name) || name.starts_with(**word);
        let distance = strsim::damerau_levenshtein(name, word);
        if akin { distance.min(2) } else { distance }
    };
    let nearest = known
        .iter()
        .min_by_key(distance)
        .filter(|word| distance(word) <= 1 + name.chars().count() / 4);
    match nearest {
        Some(word) => format!("unknown {what} {name}; did you mean {word}?"),
        None if known.is_empty() => format!("unknown {what} {name}"),
        None => format!("unknown {what} {name}; here it is one of {}", known.join(", ")),
    }
}
