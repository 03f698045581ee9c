//! What an expression may contain: its size, its names, its cost.

use cel::{
    IdedExpr, Program,
    common::ast::{EntryExpr, Expr},
};

use super::expression::Error;

mod nesting;

/// The longest expression, in characters.
pub const MAX_LENGTH: usize = 1_024;

/// The most nodes of an expression's tree, macros expanded.
const MAX_NODES: usize = 1_000;

/// The deepest nesting of an expression's tree: evaluation and destruction recurse as deep.
const MAX_DEPTH: usize = 40;

const FUNCTIONS: [&str; 12] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
];

/// Members of an event that are easily taken for variables.
const MEMBERS: [&str; 7] = ["data", "id", "source", "subject", "time", "datacontenttype", "dataschema"];

/// The deepest bracketing that is given to the parser, which recurses on it.
const MAX_BRACKETS: usize = 10;

pub(super) fn length(text: &str) -> Result<(), Error> {
    let refuse = |index, message: String| Err(at(text, index, message));
    if text.trim().is_empty() {
        return refuse(
            0,
            "an empty text is no condition; leave the field out to match every message".to_owned(),
        );
    }
    if let Some((index, _)) = text.char_indices().nth(MAX_LENGTH) {
        return refuse(index, format!("the expression is longer than {MAX_LENGTH} characters"));
    }
    if let Some(index) = nesting::deeper_than(MAX_BRACKETS, text) {
        return refuse(
            index,
            format!("more than {MAX_BRACKETS} brackets or choices stand inside of each other"),
        );
    }
    Ok(())
}

/// Checks the parsed expression; whether it reads `event.data`.
pub(super) fn tree(text: &str, program: &Program) -> Result<bool, Error> {
    let mut check = Check { text, program, nodes: 0, reads_data: false, scope: Vec::new() };
    check.node(program.expression(), 0, 0)?;
    Ok(check.reads_data)
}

/// An error at a byte of the text.
pub(super) fn at(text: &str, index: usize, message: String) -> Error {
    let before = text.get(..index).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Error { line, column, message }
}

struct Check<'a> {
    text: &'a str,
    program: &'a Program,
    nodes: usize,
    reads_data: bool,
    /// The variables of the macros around.
    scope: Vec<&'a str>,
}

impl<'a> Check<'a> {
    fn refuse(&self, node: &IdedExpr, message: String) -> Error {
        let start = self.program.source_info().offset_for(node.id).map_or(0, |(start, _)| start as usize);
        let index = self.text.char_indices().nth(start).map_or(self.text.len(), |(index, _)| index);
        at(self.text, index, message)
    }

    fn node(&mut self, node: &'a IdedExpr, depth: usize, loops: usize) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(self.refuse(node, format!("the expression is too large: over {MAX_NODES} parts, or over {MAX_DEPTH} inside of each other")));
        }
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.variable(node, name),
            Expr::Select(select) => {
                if matches!(&select.operand.expr, Expr::Ident(name) if name == "event")
                    && !self.scope.contains(&"event")
                {
                    return self.member(node, &select.field);
                }
                self.node(&select.operand, depth + 1, loops)
            }
            Expr::Call(call) => {
                self.nodes(call.target.as_deref().into_iter().chain(&call.args), depth, loops)?;
                self.function(node, &call.func_name)
            }
            Expr::List(list) => self.nodes(list.elements.iter(), depth, loops),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => self.nodes([&entry.key, &entry.value], depth, loops),
                EntryExpr::StructField(field) => self.node(&field.value, depth + 1, loops),
            }),
            Expr::Struct(shape) => {
                Err(self.refuse(node, format!("there is no type {:?} to make a value of", shape.type_name)))
            }
            Expr::Comprehension(each) => {
                self.node(&each.iter_range, depth + 1, loops)?;
                self.node(&each.accu_init, depth + 1, loops)?;
                if loops > 0 {
                    return Err(self.refuse(node, "a macro that iterates stands inside of another one, which would make the route's cost more than linear in the message".to_owned()));
                }
                let outside = self.scope.len();
                self.scope.extend([each.iter_var.as_str(), each.accu_var.as_str()]);
                self.scope.extend(each.iter_var2.as_deref());
                for part in [&each.loop_cond, &each.loop_step, &each.result] {
                    self.node(part, depth + 1, loops + 1)?;
                }
                self.scope.truncate(outside);
                Ok(())
            }
        }
    }

    fn nodes(
        &mut self,
        nodes: impl IntoIterator<Item = &'a IdedExpr>,
        depth: usize,
        loops: usize,
    ) -> Result<(), Error> {
        nodes.into_iter().try_for_each(|node| self.node(node, depth + 1, loops))
    }

    fn variable(&mut self, node: &IdedExpr, name: &str) -> Result<(), Error> {
        match name.trim_start_matches('.') {
            // The whole event is read, data included.
            "event" => self.reads_data = true,
            "topic" => {}
            name if self.scope.contains(&name) => {}
            name if FUNCTIONS.contains(&name) || ["list", "map", "null_type"].contains(&name) => {}
            name => {
                let meant =
                    if MEMBERS.contains(&name) { format!("; write event.{name}") } else { String::new() };
                return Err(self.refuse(
                    node,
                    format!("there is no variable {name:?}; expressions see event and topic{meant}"),
                ));
            }
        }
        Ok(())
    }

    fn member(&mut self, node: &IdedExpr, name: &str) -> Result<(), Error> {
        self.reads_data |= name == "data";
        let attribute =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if attribute {
            return Ok(());
        }
        Err(self.refuse(
            node,
            format!("there is no event.{name}; attributes of CloudEvents are written in lower-case letters and digits"),
        ))
    }

    fn function(&self, node: &IdedExpr, name: &str) -> Result<(), Error> {
        let operator = name.starts_with(['_', '@', '!', '-']);
        if operator || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        Err(self.refuse(node, format!("there is no function {name:?}; there are {}, and the macros has, all, exists, exists_one, map and filter", FUNCTIONS.join(", "))))
    }
}
