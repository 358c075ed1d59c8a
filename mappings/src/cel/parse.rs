//! Text -> tree, with the place of every node.

use super::{Arithmetic, Compare, MAX_DEPTH, MAX_LENGTH, MAX_TOKENS};

/// A node and the byte where it begins in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ast {
    pub at: usize,
    pub node: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Name(String),
    /// `a.b`
    Member(Box<Ast>, String),
    /// `a->b`
    Hop(Box<Ast>, String),
    Call(String, Vec<Ast>),
    List(Vec<Ast>),
    Not(Box<Ast>),
    Negate(Box<Ast>),
    And(Box<Ast>, Box<Ast>),
    Or(Box<Ast>, Box<Ast>),
    Compare(Compare, Box<Ast>, Box<Ast>),
    Arithmetic(Arithmetic, Box<Ast>, Box<Ast>),
    In(Box<Ast>, Box<Ast>),
    Choose(Box<Ast>, Box<Ast>, Box<Ast>),
}

/// What could not be read, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyntaxError {
    pub at: usize,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Int(i64),
    Float(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 25] = [
    "->", "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", "(", ")",
    "[", "]", ",", ".", "=", "&",
];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        if out.len() > MAX_TOKENS {
            return Err(SyntaxError {
                at,
                message: format!("an expression has at most {MAX_TOKENS} words and signs"),
            });
        }
        let Some(first) = rest.chars().next() else {
            out.push((at, Token::End));
            return Ok(out);
        };
        if first == '\'' || first == '"' {
            let (value, length) = quoted(rest, first)
                .ok_or_else(|| SyntaxError { at, message: "the text has no end".into() })?;
            out.push((at, Token::Text(value)));
            rest = rest.get(length..).unwrap_or("");
        } else if first.is_ascii_digit() {
            let length = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'))
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
            let digits = word.replace('_', "");
            let token = digits.parse().map(Token::Int).or_else(|_| digits.parse().map(Token::Float));
            out.push((
                at,
                token.map_err(|_| SyntaxError { at, message: format!("`{word}` is not a number") })?,
            ));
            rest = tail;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (word, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
            out.push((at, Token::Name(word.to_owned())));
            rest = tail;
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            out.push((at, Token::Sign(sign)));
            rest = rest.get(sign.len()..).unwrap_or("");
        } else {
            return Err(SyntaxError { at, message: format!("`{first}` has no meaning here") });
        }
    }
}

/// The text between quotes and the bytes it took.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c if c == quote => return Some((value, at + c.len_utf8())),
            c => value.push(c),
        }
    }
    None
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

/// Reads an expression.
pub(crate) fn parse(text: &str) -> Result<Ast, SyntaxError> {
    if text.len() > MAX_LENGTH {
        return Err(SyntaxError {
            at: 0,
            message: format!("an expression has at most {MAX_LENGTH} characters"),
        });
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    let ast = parser.choose()?;
    match parser.peek() {
        Token::End => Ok(ast),
        other => Err(parser.unexpected(&other.clone(), "an operator or the end")),
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, t)| t)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), SyntaxError> {
        if self.accept(sign) {
            return Ok(());
        }
        let token = self.peek().clone();
        Err(self.unexpected(&token, &format!("`{sign}`")))
    }

    fn unexpected(&self, token: &Token, expected: &str) -> SyntaxError {
        let found = match token {
            Token::Int(n) => format!("`{n}`"),
            Token::Float(n) => format!("`{n}`"),
            Token::Text(t) => format!("'{t}'"),
            Token::Name(n) => format!("`{n}`"),
            Token::Sign(s) => format!("`{s}`"),
            Token::End => "the end".to_owned(),
        };
        SyntaxError { at: self.at(), message: format!("expected {expected}, found {found}") }
    }

    /// Everything nests through here, so the depth is counted here.
    fn choose(&mut self) -> Result<Ast, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError { at: self.at(), message: format!("nested deeper than {MAX_DEPTH}") });
        }
        let at = self.at();
        let mut ast = self.or()?;
        if self.accept("?") {
            let yes = self.choose()?;
            self.expect(":")?;
            let no = self.choose()?;
            ast = Ast { at, node: Node::Choose(Box::new(ast), Box::new(yes), Box::new(no)) };
        }
        self.depth -= 1;
        Ok(ast)
    }

    fn or(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let mut left = self.and()?;
        while self.accept("||") {
            left = Ast { at, node: Node::Or(Box::new(left), Box::new(self.and()?)) };
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let mut left = self.compare()?;
        while self.accept("&&") {
            left = Ast { at, node: Node::And(Box::new(left), Box::new(self.compare()?)) };
        }
        Ok(left)
    }

    fn compare(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let left = self.sum()?;
        let signs = [
            ("==", Compare::Eq),
            ("!=", Compare::Ne),
            ("<=", Compare::Le),
            (">=", Compare::Ge),
            ("<", Compare::Lt),
            (">", Compare::Gt),
        ];
        for (sign, compare) in signs {
            if self.accept(sign) {
                let right = self.sum()?;
                return Ok(Ast { at, node: Node::Compare(compare, Box::new(left), Box::new(right)) });
            }
        }
        if *self.peek() == Token::Name("in".to_owned()) {
            self.next += 1;
            let right = self.sum()?;
            return Ok(Ast { at, node: Node::In(Box::new(left), Box::new(right)) });
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let mut left = self.product()?;
        loop {
            let op = match self.peek() {
                Token::Sign("+") => Arithmetic::Add,
                Token::Sign("-") => Arithmetic::Sub,
                _ => return Ok(left),
            };
            self.next += 1;
            left = Ast { at, node: Node::Arithmetic(op, Box::new(left), Box::new(self.product()?)) };
        }
    }

    fn product(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let mut left = self.unary()?;
        loop {
            let op = match self.peek() {
                Token::Sign("*") => Arithmetic::Mul,
                Token::Sign("/") => Arithmetic::Div,
                Token::Sign("%") => Arithmetic::Rem,
                _ => return Ok(left),
            };
            self.next += 1;
            left = Ast { at, node: Node::Arithmetic(op, Box::new(left), Box::new(self.unary()?)) };
        }
    }

    fn unary(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let mut signs = Vec::new();
        while signs.len() < MAX_DEPTH {
            if self.accept("!") {
                signs.push('!');
            } else if self.accept("-") {
                signs.push('-');
            } else {
                break;
            }
        }
        let mut ast = self.member()?;
        for sign in signs.iter().rev() {
            let node = if *sign == '!' { Node::Not(Box::new(ast)) } else { Node::Negate(Box::new(ast)) };
            ast = Ast { at, node };
        }
        Ok(ast)
    }

    fn member(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let mut ast = self.primary()?;
        loop {
            let hop = if self.accept(".") {
                false
            } else if self.accept("->") {
                true
            } else {
                return Ok(ast);
            };
            let Token::Name(name) = self.peek().clone() else {
                let token = self.peek().clone();
                return Err(self.unexpected(&token, "a field"));
            };
            self.next += 1;
            let node = if hop { Node::Hop(Box::new(ast), name) } else { Node::Member(Box::new(ast), name) };
            ast = Ast { at, node };
        }
    }

    fn primary(&mut self) -> Result<Ast, SyntaxError> {
        let at = self.at();
        let before = self.next;
        let node = match self.take() {
            Token::Int(n) => Node::Int(n),
            Token::Float(n) => Node::Float(n),
            Token::Text(t) => Node::Text(t),
            Token::Name(n) if n == "true" || n == "false" => Node::Bool(n == "true"),
            Token::Name(name) if self.accept("(") => Node::Call(name, self.arguments(")")?),
            Token::Name(name) => Node::Name(name),
            Token::Sign("(") => {
                let inner = self.choose()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => Node::List(self.arguments("]")?),
            token => {
                self.next = before;
                return Err(self.unexpected(&token, "a value"));
            }
        };
        Ok(Ast { at, node })
    }

    fn arguments(&mut self, close: &'static str) -> Result<Vec<Ast>, SyntaxError> {
        let mut out = Vec::new();
        while !self.accept(close) {
            if !out.is_empty() {
                self.expect(",")?;
            }
            out.push(self.choose()?);
        }
        Ok(out)
    }
}
