//! The conditions of `governance.toolkit/v1`: comparisons joined by `and`, `or` and `not`.

use serde_json::{Number, Value};

use crate::dialect::compare;
use crate::toolkit::{Operator, Test};

/// Each level is a call of its own.
const DEPTH_MAX: usize = 16;
const SOURCE_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Literal(Value),
    Sign(&'static str),
}

const SIGNS: [&str; 11] = ["==", "!=", ">=", "<=", ">", "<", "(", ")", "[", "]", ","];

/// Reads a condition.
pub(crate) fn parse(source: &str) -> Result<Test, String> {
    if source.len() > SOURCE_MAX {
        return Err(format!("a condition has at most {SOURCE_MAX} characters"));
    }
    let tokens = tokens(source)?;
    let mut reader = Reader { tokens: &tokens };
    let test = reader.any(0)?;
    match reader.tokens.first() {
        None => Ok(test),
        Some(token) => Err(format!("{} is not expected here", show(token))),
    }
}

fn show(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("`{}`", yaml::shorten(word)),
        Token::Literal(value) => format!("`{}`", yaml::shorten(&value.to_string())),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), source.trim_start());
    while let Some(c) = rest.chars().next() {
        let length = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else if c == '\'' || c == '"' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find(c).ok_or("a text is not closed")?;
            let text = inner.get(..end).unwrap_or_default();
            if text.contains('\\') {
                return Err("a text holds a backslash, which is read in more than one way".into());
            }
            tokens.push(Token::Literal(text.into()));
            end + 2
        } else {
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let text = rest.get(..end).unwrap_or_default();
            if text.is_empty() {
                return Err(format!("`{}` is not expected here", c.escape_debug()));
            }
            tokens.push(word_of(text)?);
            end
        };
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(tokens)
}

fn word_of(text: &str) -> Result<Token, String> {
    if text == "true" || text == "false" {
        return Ok(Token::Literal(Value::Bool(text == "true")));
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        let number = text.parse::<i64>().map(Number::from).ok();
        let number = number.or_else(|| text.parse().ok().and_then(Number::from_f64));
        let number = number.ok_or_else(|| format!("`{}` is no number", yaml::shorten(text)))?;
        return Ok(Token::Literal(Value::Number(number)));
    }
    Ok(Token::Word(text.to_owned()))
}

/// What is missing is 0 where an order is asked for, and is not equal to anything.
fn missing(operator: Operator) -> Option<Value> {
    match operator {
        Operator::Gt | Operator::Lt | Operator::Gte | Operator::Lte => Some(0.into()),
        Operator::Ne => Some(Value::Null),
        Operator::Eq | Operator::In | Operator::Contains | Operator::Matches => None,
    }
}

struct Reader<'t> {
    tokens: &'t [Token],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.first(), Some(Token::Word(w)) if w == word);
        if found {
            self.next();
        }
        found
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.first(), Some(Token::Sign(s)) if *s == sign);
        if found {
            self.next();
        }
        found
    }

    fn any(&mut self, depth: usize) -> Result<Test, String> {
        let mut tests = vec![self.all(depth)?];
        while self.eat_word("or") {
            tests.push(self.all(depth)?);
        }
        Ok(if tests.len() == 1 {
            tests.remove(0)
        } else {
            Test::Any(tests)
        })
    }

    fn all(&mut self, depth: usize) -> Result<Test, String> {
        let mut tests = vec![self.one(depth)?];
        while self.eat_word("and") {
            tests.push(self.one(depth)?);
        }
        Ok(if tests.len() == 1 {
            tests.remove(0)
        } else {
            Test::All(tests)
        })
    }

    fn one(&mut self, depth: usize) -> Result<Test, String> {
        if depth > DEPTH_MAX {
            return Err("this is nested deeper than 16".to_owned());
        }
        if self.eat_word("not") {
            return Ok(Test::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.eat("(") {
            let test = self.any(depth + 1)?;
            return if self.eat(")") {
                Ok(test)
            } else {
                Err("`)` is missing".to_owned())
            };
        }
        let field = match self.next() {
            Some(Token::Word(word)) => word.split('.').map(str::to_owned).collect(),
            Some(token) => return Err(format!("{} is no field", show(token))),
            None => return Err("the condition ends where a field is expected".to_owned()),
        };
        let operator = self.operator()?;
        let value = self.value(operator)?;
        compare(field, operator, value, missing(operator))
    }

    fn operator(&mut self) -> Result<Operator, String> {
        match self.next() {
            Some(Token::Sign("==")) => Ok(Operator::Eq),
            Some(Token::Sign("!=")) => Ok(Operator::Ne),
            Some(Token::Sign(">")) => Ok(Operator::Gt),
            Some(Token::Sign("<")) => Ok(Operator::Lt),
            Some(Token::Sign(">=")) => Ok(Operator::Gte),
            Some(Token::Sign("<=")) => Ok(Operator::Lte),
            Some(Token::Word(word)) if word == "in" => Ok(Operator::In),
            Some(token) => Err(format!("{} is no comparison", show(token))),
            None => Err("the condition ends where a comparison is expected".to_owned()),
        }
    }

    fn value(&mut self, operator: Operator) -> Result<Value, String> {
        if operator != Operator::In {
            return match self.next() {
                Some(Token::Literal(value)) => Ok(value.clone()),
                Some(token) => Err(format!("{} is no value", show(token))),
                None => Err("the condition ends where a value is expected".to_owned()),
            };
        }
        if !self.eat("[") {
            return Err("`in` takes a list, such as ['a', 'b']".to_owned());
        }
        let mut items = Vec::new();
        loop {
            match self.next() {
                Some(Token::Literal(value)) => items.push(value.clone()),
                _ => return Err("a list holds values".to_owned()),
            }
            if self.eat("]") {
                return Ok(Value::Array(items));
            }
            if !self.eat(",") {
                return Err("`,` or `]` is missing".to_owned());
            }
        }
    }
}
