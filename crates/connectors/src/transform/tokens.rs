//! What is counted before anything is built of a text: parser and planner descend into it step by
//! step, and where a text is wrong the parser tries some words in two ways each, at every level.

use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::Fault;

/// Operators and keywords that a text may have: each can nest what stands before it one deeper,
/// and a tree that is too deep cannot even be dropped.
const MOST_OPERATORS: usize = 1_500;
/// Doublings of the parser's work by words inside of each other.
const MOST_DOUBLINGS: u32 = 14;

/// Refuses a text that would take too long or too much to parse. A text that has no tokens is
/// left to the parser.
pub(super) fn check(text: &str) -> Result<(), Vec<Fault>> {
    let mut tokenizer = Tokenizer::new(&GenericDialect {}, text);
    let tokens = tokenizer.tokenize_with_location().unwrap_or_default();
    let tokens = tokens.into_iter().map(|t| (t.token, t.span.start));
    let tokens: Vec<_> = tokens.filter(|(t, _)| !matches!(t, Token::Whitespace(_))).collect();
    let nests = |(token, _): &&(Token, Location)| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Comma | Token::LParen | Token::RParen => false,
        Token::Number(..) | Token::SingleQuotedString(_) => false,
        _ => true,
    };
    if tokens.iter().filter(nests).count() > MOST_OPERATORS {
        let what = format!("the transform has more than {MOST_OPERATORS} operators and keywords");
        return Err(vec![Fault::new(what).hint("use fewer of them")]);
    }
    match too_deep(&tokens) {
        Some(at) => {
            let fault = Fault::new("`CASE`, `CAST` and the like are nested too deeply");
            Err(vec![fault.hint("write it flatter").at(Some((at.line, at.column)))])
        }
        None => Ok(()),
    }
}

/// Where the words inside of each other become too many.
fn too_deep(tokens: &[(Token, Location)]) -> Option<Location> {
    let (mut open, mut doublings, mut before) = (Vec::new(), 0, Keyword::NoKeyword);
    for (token, at) in tokens {
        let keyword = if let Token::Word(word) = token { word.keyword } else { Keyword::NoKeyword };
        let opened = match token {
            Token::LParen => Some(doubles(before)),
            Token::LBracket => Some(1),
            _ if keyword == Keyword::CASE => Some(1),
            _ => None,
        };
        if let Some(more) = opened {
            open.push(more);
            doublings += more;
        }
        if matches!(token, Token::RParen | Token::RBracket) || keyword == Keyword::END {
            doublings -= open.pop().unwrap_or(0);
        }
        if doublings > MOST_DOUBLINGS {
            return Some(*at);
        }
        before = keyword;
    }
    None
}

/// How often the parser's work is doubled by what stands in parentheses behind a word.
fn doubles(before: Keyword) -> u32 {
    match before {
        Keyword::POSITION => 2,
        Keyword::CAST
        | Keyword::TRY_CAST
        | Keyword::SAFE_CAST
        | Keyword::CONVERT
        | Keyword::TRY_CONVERT
        | Keyword::SUBSTRING
        | Keyword::SUBSTR
        | Keyword::CEIL
        | Keyword::FLOOR
        | Keyword::OVERLAY
        | Keyword::EXTRACT
        | Keyword::TRIM
        | Keyword::CASE
        | Keyword::CURRENT_CATALOG
        | Keyword::CURRENT_DATE
        | Keyword::CURRENT_TIME
        | Keyword::CURRENT_TIMESTAMP
        | Keyword::CURRENT_USER
        | Keyword::LOCALTIME
        | Keyword::LOCALTIMESTAMP
        | Keyword::SESSION_USER
        | Keyword::USER
        | Keyword::FROM => 1,
        _ => 0,
    }
}
