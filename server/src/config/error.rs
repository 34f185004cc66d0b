//! What is wrong with a configuration, one line per defect.

use std::fmt;

/// One unusable setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where it was set: a file and key, an environment variable, a flag.
    pub origin: String,
    /// What is wrong and what to do.
    pub detail: String,
}

impl ConfigProblem {
    pub(crate) fn new(origin: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { origin: origin.into(), detail: detail.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.detail)
    }
}

/// The process cannot start with this configuration. Holds at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// All that was found.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// One problem.
    pub fn single(origin: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { problems: vec![ConfigProblem::new(origin, detail)] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
