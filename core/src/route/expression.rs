//! One compiled CEL expression.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::{Program, Value};

use super::{check, scope::Scope};

/// An expression that is refused, with the place in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

/// An expression that compiled failed on a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The evaluation stopped: a member that is missing, types that do not go together, a division by zero.
    #[error("{0}")]
    Evaluation(String),
    /// It gave something that is neither true nor false.
    #[error("it gives a value of type {0}; a condition has to give true or false")]
    NotBool(String),
}

/// A compiled condition.
#[derive(Debug)]
pub(super) struct Expression {
    program: Program,
    reads_data: bool,
}

impl Expression {
    /// Compiles and checks a condition; the bounds are those of the module.
    pub(super) fn compile(text: &str) -> Result<Self, Error> {
        check::length(text)?;
        // The parser is generated code of somebody else, and the text is anybody's: should it panic, that is one more refused text.
        let parsed = catch_unwind(AssertUnwindSafe(|| Program::compile(text)));
        let program = match parsed {
            Ok(Ok(program)) => program,
            Ok(Err(errors)) => return Err(first(text, &errors)),
            Err(_) => return Err(check::at(text, 0, "this is no CEL expression".to_owned())),
        };
        let reads_data = check::tree(text, &program)?;
        Ok(Self { program, reads_data })
    }

    pub(super) fn reads_data(&self) -> bool {
        self.reads_data
    }

    pub(super) fn holds(&self, scope: &Scope) -> Result<bool, Failed> {
        let value = catch_unwind(AssertUnwindSafe(|| self.program.execute(&scope.0)))
            .map_err(|_| Failed::Evaluation("the evaluation broke off".to_owned()))?;
        match value {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(Failed::NotBool(other.type_of().to_string())),
            Err(error) => Err(Failed::Evaluation(shorten(&error.to_string()))),
        }
    }
}

/// The parser's first error; the ones after it are mostly its consequences.
fn first(text: &str, errors: &cel::ParseErrors) -> Error {
    let Some(error) = errors.errors.first() else {
        return check::at(text, 0, "this is no CEL expression".to_owned());
    };
    let position = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let mut message = shorten(error.msg.trim_start_matches("Syntax error: "));
    if message.starts_with("token recognition error at: '=") {
        "there is no operator =; write == to compare".clone_into(&mut message);
    }
    Error { line: position(error.pos.0), column: position(error.pos.1), message }
}

/// Messages of the library may hold whole values of a message.
fn shorten(message: &str) -> String {
    const LONGEST: usize = 200;
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
