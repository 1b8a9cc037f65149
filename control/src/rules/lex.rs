//! The words, numbers and signs that rules are made of.

use std::ops::Range;

use winnow::ascii::digit1;
use winnow::combinator::{alt, eof, opt, preceded};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{Location, Stream};
use winnow::token::{any, literal, one_of, take_while};
use winnow::{LocatingSlice, ModalResult, Parser};

use super::error::Fault;

pub(super) type Input<'a> = LocatingSlice<&'a str>;
pub(super) type Parsed<T> = ModalResult<T, Fault>;

/// Longest text in quotes, in characters.
const MAX_QUOTED: usize = 200;

impl<'a> ParserError<Input<'a>> for Fault {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        let here = input.current_token_start();
        Self::new(here..here, "something else")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// A failure that no other reading can mend.
pub(super) fn cut(fault: Fault) -> ErrMode<Fault> {
    ErrMode::Cut(fault)
}

/// What comes next is not `what`.
pub(super) fn expected(input: &Input<'_>, what: impl Into<String>) -> ErrMode<Fault> {
    cut(Fault::new(next(input), what))
}

/// Where the next word, number or sign stands; empty at the end.
pub(super) fn next(input: &Input<'_>) -> Range<usize> {
    let mut ahead = *input;
    let read: Parsed<Range<usize>> = preceded(
        blank,
        alt((
            eof.void(),
            (opt(digit1), take_while(1.., is_name_part)).void(),
            digit1.void(),
            preceded('"', (take_while(0.., |c| c != '"'), opt('"'))).void(),
            alt(("->", ">=", "<=", "==", "!=", "=>", "&&", "||")).void(),
            any.void(),
        ))
        .span(),
    )
    .parse_next(&mut ahead);
    read.unwrap_or_else(|_| ahead.current_token_start()..ahead.current_token_start())
}

pub(super) fn blank(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || "_.:".contains(c)
}

/// A word and where it stands.
pub(super) fn word<'a>(input: &mut Input<'a>) -> Parsed<(&'a str, Range<usize>)> {
    let name = (one_of(|c: char| c.is_alphabetic() || c == '_'), take_while(0.., is_name_part));
    preceded(blank, name.take().with_span()).parse_next(input)
}

/// One of these words.
pub(super) fn keyword<'a>(
    words: &'static [&'static str],
) -> impl Parser<Input<'a>, (), ErrMode<Fault>> {
    word.verify(move |(word, _): &(&str, _)| words.contains(word)).void()
}

/// Whether one of these words comes next; it is passed over then.
pub(super) fn takes(input: &mut Input<'_>, words: &'static [&'static str]) -> Parsed<bool> {
    opt(keyword(words)).map(|found| found.is_some()).parse_next(input)
}

/// Whether this sign comes next; it is passed over then.
pub(super) fn takes_sign(input: &mut Input<'_>, sign: &'static str) -> Parsed<bool> {
    opt(preceded(blank, literal(sign))).map(|found| found.is_some()).parse_next(input)
}

/// A number without sign, and where it stands.
pub(super) fn number(input: &mut Input<'_>) -> Parsed<(f64, Range<usize>)> {
    let text = (digit1, opt(('.', digit1))).take();
    let number = text.verify_map(|text: &str| text.parse::<f64>().ok());
    preceded(blank, number.with_span()).parse_next(input)
}

/// A whole number within `range`, or a fault that says `what` was expected.
pub(super) fn whole(input: &mut Input<'_>, range: Range<u32>, what: &str) -> Parsed<u32> {
    let at = next(input);
    let (least, most) = (range.start, range.end - 1);
    let fault = || cut(Fault::new(at.clone(), format!("{what} from {least} to {most}")));
    let digits = preceded(blank, digit1.map(str::parse::<u32>)).parse_next(input);
    match digits.map_err(|_: ErrMode<Fault>| fault())? {
        Ok(whole) if range.contains(&whole) && !input.starts_with(is_name_part) => Ok(whole),
        _ => Err(fault()),
    }
}

/// Letters, digits and signs that belong to one unit, and where they stand.
pub(super) fn unit_text<'a>(input: &mut Input<'a>) -> Parsed<(&'a str, Range<usize>)> {
    take_while(1.., |c: char| c.is_alphanumeric() || "%/".contains(c)).with_span().parse_next(input)
}

/// The name of a service, which unlike a metric's may hold `-`.
pub(super) fn service<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let name = (one_of(|c: char| c.is_ascii_alphanumeric()), take_while(0.., part)).take();
    preceded(blank, name).parse_next(input)
}

/// A text in double quotes, in which `\"` and `\\` stand for `"` and `\`.
pub(super) fn quoted(input: &mut Input<'_>, what: &str) -> Parsed<String> {
    let fault = expected(input, format!("{what} in double quotes"));
    if !takes_sign(input, "\"")? {
        return Err(fault);
    }
    let start = input.current_token_start() - 1;
    let mut text = String::new();
    loop {
        let read = any.parse_next(input).map_err(|_: ErrMode<Fault>| {
            let at = start..input.current_token_start();
            cut(Fault::new(at, "an end of the text").found("a text without its closing quote"))
        })?;
        match read {
            '"' => break,
            '\\' => match any.parse_next(input)? {
                escaped @ ('"' | '\\') => text.push(escaped),
                _ => {
                    let end = input.current_token_start();
                    let fault = Fault::new(end - 1..end, r#"\" or \\ after a \"#);
                    return Err(cut(fault));
                }
            },
            plain => text.push(plain),
        }
    }
    let at = start..input.current_token_start();
    let length = text.chars().count();
    if length == 0 || length > MAX_QUOTED || text.contains(char::is_control) {
        let expected = format!("1 to {MAX_QUOTED} characters, none of them a control character");
        return Err(cut(Fault::new(at, expected).found(format!("a text of {length}"))));
    }
    Ok(text)
}

trait StartsWith {
    fn starts_with(&self, is: impl Fn(char) -> bool) -> bool;
}

impl StartsWith for Input<'_> {
    fn starts_with(&self, is: impl Fn(char) -> bool) -> bool {
        self.peek_token().is_some_and(is)
    }
}
