//! How an execution's attributes are compared.
//!
//! An attribute is any JSON. `=` and `<>` compare texts: a string's own, of everything else its JSON. The others compare
//! numbers with numbers where what is asked for is a number, and texts by their bytes where it is not, so that times of
//! one form compare too. An attribute that is not there compares to nothing, not even as different.

use crate::backend::Dialect;
use crate::sql::Statement;

/// How an attribute is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// The same text.
    Equal,
    /// Another text.
    NotEqual,
    /// Less.
    Less,
    /// Less or the same.
    AtMost,
    /// More.
    Greater,
    /// More or the same.
    AtLeast,
}

impl Compare {
    fn operator(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }

    fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// A condition on one attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeFilter {
    /// The attribute's name.
    pub key: String,
    /// How it compares.
    pub compare: Compare,
    /// To what.
    pub value: String,
}

impl AttributeFilter {
    /// The attribute has this text.
    pub fn equal(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), compare: Compare::Equal, value: value.into() }
    }

    /// The number that is asked for; none: texts are compared.
    fn number(&self) -> Option<f64> {
        let orders = self.compare.orders();
        orders.then(|| self.value.parse::<f64>().ok()).flatten().filter(|number| number.is_finite())
    }

    /// The condition, after others.
    pub(crate) fn push(&self, query: &mut Statement, dialect: Dialect) {
        let members = dialect.members("executions.attributes");
        query.push(&format!(" and exists (select 1 from {members} as a where a.key = "));
        query.push_bind(self.key.as_str());
        let operator = self.compare.operator();
        if let Some(number) = self.number() {
            query.push(&format!(" and {} {operator} cast(", dialect.member_number("a")));
            // The shortest text that gives the same number again.
            query.push_bind(number.to_string()).push(dialect.text_as_number()).push(")");
        } else {
            query.push(&format!(" and {} {operator} ", dialect.member_text("a")));
            query.push_bind(self.value.as_str());
        }
        query.push(")");
    }
}
