//! Lines and components of the text form of RFC 5545, section 3.1.

use std::borrow::Cow;

/// Components within components: alarms of events, rules of zones, in a calendar, and some to spare.
const MOST_NESTED: usize = 8;
/// Properties that are read; of others only the form is looked at.
const READ: [&str; 21] = [
    "DTEND",
    "DTSTAMP",
    "DTSTART",
    "DURATION",
    "EXDATE",
    "METHOD",
    "RDATE",
    "RECURRENCE-ID",
    "RRULE",
    "SEQUENCE",
    "STATUS",
    "SUMMARY",
    "TZID",
    "TZOFFSETFROM",
    "TZOFFSETTO",
    "UID",
    "X-FORESHADOW-LIFT",
    "X-LIC-LOCATION",
    "X-MICROSOFT-CDO-TZID",
    "X-WR-TIMEZONE",
    "EXRULE",
];

/// A line such as `DTSTART;TZID=Europe/Berlin:20261023T100000`, with what was folded put together.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Where it begins, from 1.
    pub number: usize,
    text: Cow<'a, str>,
    /// Of the name.
    name_ends: usize,
    /// Of the colon before the value.
    colon: usize,
}

impl Line<'_> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.text[..self.name_ends].eq_ignore_ascii_case(name)
    }

    /// What stands behind the colon.
    pub(super) fn value(&self) -> &str {
        self.text[self.colon + 1..].trim()
    }

    /// The value of a parameter, without quotes.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut rest = &self.text[self.name_ends..self.colon];
        while let Some(begun) = rest.strip_prefix(';') {
            let end = unquoted(begun, b";").unwrap_or(begun.len());
            let (one, after) = begun.split_at(end);
            rest = after;
            if let Some((key, value)) = one.split_once('=')
                && key.trim().eq_ignore_ascii_case(name)
            {
                return Some(value.trim().trim_matches('"'));
            }
        }
        None
    }

    /// The value as text that was written with escapes (section 3.3.11).
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut letters = self.value().chars();
        while let Some(letter) = letters.next() {
            match (letter, letter == '\\') {
                (_, false) => text.push(letter),
                (_, true) => match letters.next() {
                    Some('n' | 'N') => text.push(' '),
                    Some(other) => text.push(other),
                    None => {}
                },
            }
        }
        text
    }
}

/// What stands between a BEGIN and its END.
#[derive(Debug)]
pub(super) struct Component<'a> {
    name: String,
    /// Of its BEGIN.
    pub number: usize,
    pub lines: Vec<Line<'a>>,
    /// The first line that has not the form of one, and why: what it would have said is not known.
    pub spoilt: Option<(usize, String)>,
    pub within: Vec<Component<'a>>,
}

impl<'a> Component<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The first property of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Line<'a>> {
        self.all(name).next()
    }

    /// All properties of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Line<'a>> {
        self.lines.iter().filter(move |line| line.is(name))
    }
}

/// The text of a file, in which a line may be folded in the middle of a character (RFC 5545, 3.1); such
/// a fold is undone, and lines behind it count one less.
///
/// # Errors
/// That it is no UTF-8.
pub(in crate::checked) fn text(bytes: Vec<u8>) -> Result<String, std::str::Utf8Error> {
    let mut bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    let mut mended = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_mut_slice();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(_) => break,
            Err(error) => error,
        };
        // What was begun of a character is followed by the fold, and that by the rest of it.
        let begun = error.error_len().unwrap_or(0);
        let at = error.valid_up_to() + begun;
        let fold = [&b"\r\n "[..], b"\r\n\t", b"\n ", b"\n\t"];
        let Some(fold) = fold.iter().find(|fold| begun > 0 && rest[at..].starts_with(fold)) else {
            return Err(error);
        };
        // The character goes on behind the fold: its beginning is moved there.
        rest.copy_within(at - begun..at, at - begun + fold.len());
        mended.extend_from_slice(&rest[..at - begun]);
        rest = &mut rest[at - begun + fold.len()..];
    }
    mended.extend_from_slice(rest);
    String::from_utf8(mended).map_err(|error| error.utf8_error())
}

/// The calendars of a text, of each what is read.
///
/// # Errors
/// The line that lies in no calendar, or from which on components are not as they must be.
pub(super) fn calendars(text: &str) -> Result<Vec<Component<'_>>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut open: Vec<Component<'_>> = Vec::new();
    let mut calendars = Vec::new();
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((first, number)) = lines.next() {
        let mut text = Cow::Borrowed(first);
        // A line break before a blank is none.
        while let Some((more, _)) = lines.next_if(|(line, _)| line.starts_with([' ', '\t'])) {
            text.to_mut().push_str(&more[1..]);
        }
        if text.trim().is_empty() {
            continue;
        }
        let line = match line(text, number) {
            Ok(Some(line)) => line,
            Ok(None) => continue,
            Err(why) => {
                let of = open.last_mut().ok_or_else(|| format!("line {number}: {why}"))?;
                of.spoilt.get_or_insert((number, why));
                continue;
            }
        };
        if line.is("BEGIN") {
            begin(&line, &mut open)?;
        } else if line.is("END") {
            end(&line, &mut open, &mut calendars)?;
        } else if let Some(of) = open.last_mut() {
            of.lines.push(line);
        } else {
            return Err(format!("line {number}: {} lies in no calendar", shown(&line.text)));
        }
    }
    match open.last() {
        Some(open) => Err(format!("line {}: BEGIN:{} has no END", open.number, shown(&open.name))),
        None if calendars.is_empty() => Err("it holds no BEGIN:VCALENDAR".to_owned()),
        None => Ok(calendars),
    }
}

/// A line, if it is of interest; the error is why it has not the form of one.
fn line(text: Cow<'_, str>, number: usize) -> Result<Option<Line<'_>>, String> {
    let name_ends = unquoted(&text, b":;").filter(|end| {
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        *end > 0 && text.as_bytes()[..*end].iter().all(|b| is_letter(*b))
    });
    let name = name_ends.map(|end| &text[..end]);
    let is_read = |name: &str| {
        let all = READ.iter().chain(&["BEGIN", "END"]);
        all.clone().any(|read| name.eq_ignore_ascii_case(read))
    };
    if name.is_some_and(|name| !is_read(name)) {
        return Ok(None);
    }
    let (Some(colon), Some(name_ends)) = (unquoted(&text, b":"), name_ends) else {
        return Err(format!(
            "{:?} is not of the form NAME:value; a line that goes on in the next one does so behind \
             a blank",
            shown(&text)
        ));
    };
    Ok(Some(Line { number, text, name_ends, colon }))
}

fn begin(line: &Line<'_>, open: &mut Vec<Component<'_>>) -> Result<(), String> {
    let (number, name) = (line.number, line.value().to_ascii_uppercase());
    if open.len() == MOST_NESTED {
        return Err(format!(
            "line {number}: BEGIN:{} lies within {MOST_NESTED} others: is an END missing before it?",
            shown(&name)
        ));
    }
    if (name == "VCALENDAR") != open.is_empty() {
        let where_it_is = if open.is_empty() { "in no calendar" } else { "within another one" };
        return Err(format!("line {number}: BEGIN:{} lies {where_it_is}", shown(&name)));
    }
    open.push(Component { name, number, lines: Vec::new(), spoilt: None, within: Vec::new() });
    Ok(())
}

fn end<'a>(
    line: &Line<'_>,
    open: &mut Vec<Component<'a>>,
    calendars: &mut Vec<Component<'a>>,
) -> Result<(), String> {
    let name = line.value();
    let Some(ended) = open.pop_if(|open| open.name.eq_ignore_ascii_case(name)) else {
        let (number, name) = (line.number, shown(name));
        return Err(format!("line {number}: END:{name} ends nothing that has begun"));
    };
    open.last_mut().map_or(calendars, |of| &mut of.within).push(ended);
    Ok(())
}

/// Where one of `marks` stands outside of quotes.
fn unquoted(text: &str, marks: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    text.bytes().position(|byte| {
        is_quoted ^= byte == b'"';
        !is_quoted && marks.contains(&byte)
    })
}

/// The beginning of what may be long.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_be_folded_in_the_middle_of_a_character() {
        for fold in ["\r\n ", "\n\t"] {
            for (sign, at) in [("é", 1), ("€", 1), ("€", 2), ("\u{1f525}", 3)] {
                let (begun, rest) = sign.as_bytes().split_at(at);
                let bytes = [b"SUMMARY:a", begun, fold.as_bytes(), rest, b"b\nX:1\n"].concat();
                assert_eq!(text(bytes).unwrap(), format!("SUMMARY:a{sign}b\nX:1\n"));
            }
        }
        let twice = [b"\xc3\n \xa9" as &[u8], b"\xe2\n \x82\n \xac"].concat();
        assert_eq!(text(twice).unwrap(), "é€");
        for wrong in [b"\xff\n x" as &[u8], b"a\xc3", b"\xc3\n", b"\xe9t\xe9\n"] {
            assert!(text(wrong.to_vec()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn folded_and_quoted_lines_are_read() {
        let text = "\u{feff}BEGIN:VCALENDAR\r\nX-WR-CALNAME:any\r\nBEGIN:vevent\r\n\
                    DTSTART;VALUE=DATE-TIME;TZID=\"(UTC+01:00) Am\r\n sterdam; Berlin\":2026\r\n\t1023\r\n\
                    SUMMARY:one\\, two\\nthree \\\\ four\r\n\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        let calendars = calendars(text).unwrap();
        let event = &calendars[0].within[0];
        assert!(event.is("VEVENT") && event.number == 3);
        let start = event.get("DTSTART").unwrap();
        assert_eq!((start.number, start.value()), (4, "20261023"));
        assert_eq!(start.parameter("tzid"), Some("(UTC+01:00) Amsterdam; Berlin"));
        assert_eq!(start.parameter("NONE"), None);
        assert_eq!(event.get("SUMMARY").unwrap().text(), "one, two three \\ four");
        assert!(calendars[0].lines.is_empty(), "names of calendars are of no interest");
    }

    #[test]
    fn a_line_without_form_spoils_what_it_stands_in() {
        let text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDESCRIPTION:one\ntwo\nDTSTART;X=\":1\nUID:1\n\
                    END:VEVENT\nBEGIN:VEVENT\nATTENDEE;CN=6\" pipe:mailto:x\nEND:VEVENT\n:x\n\
                    END:VCALENDAR\n";
        let calendar = &calendars(text).unwrap()[0];
        let line = |of: &Component<'_>| of.spoilt.as_ref().map(|(line, _)| *line);
        let events = &calendar.within;
        assert_eq!((line(&events[0]), line(&events[1]), line(calendar)), (Some(4), None, Some(11)));
        assert_eq!(events[0].lines.len(), 1, "what has the form of a line is read all the same");
    }

    #[test]
    fn what_is_no_calendar_is_refused_with_its_line() {
        let deep = "BEGIN:VCALENDAR\n".to_owned() + &"BEGIN:VEVENT\n".repeat(100_000);
        let folded = "BEGIN:VCALENDAR\n".to_owned() + &"BEG\r\n IN:X\n".repeat(100_000);
        for (text, why) in [
            (deep.as_str(), "line 9: BEGIN:VEVENT lies within 8 others"),
            (folded.as_str(), "lies within 8 others"),
            ("BEGIN:VCALENDAR\nEND:VALARM\n", "line 2: END:VALARM ends nothing"),
            (
                "BEGIN:VCALENDAR\nBEGIN:VEVENT\nEND:VCALENDAR\n",
                "line 3: END:VCALENDAR ends nothing",
            ),
            ("BEGIN:VCALENDAR\nBEGIN:VCALENDAR\n", "line 2: BEGIN:VCALENDAR lies within another"),
            ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "line 2: BEGIN:VEVENT has no END"),
            ("BEGIN:VEVENT\n", "line 1: BEGIN:VEVENT lies in no calendar"),
            ("SUMMARY:x\n", "line 1: SUMMARY:x lies in no calendar"),
            ("<html>\n", "line 1: \"<html>\" is not of the form"),
            ("no property\nBEGIN:VCALENDAR\n", "line 1: \"no property\" is not of the form"),
            ("", "no BEGIN:VCALENDAR"),
        ] {
            let error = calendars(text).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(error.len() < 200, "{error}");
        }
    }
}
