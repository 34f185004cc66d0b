//! `sub_workflow`: another workflow as a step of this one.

use serde_json::{Value, json};

use crate::execution::event::ErrorKind;
use crate::expression::{Credentials, Fuel, References, Scope, Template};
use crate::workflow::definition::Reader;

use super::{ChildRequest, Step, StepError};

/// `workflow` (an id or a name, may be a template), `version`, `input`, `wait` (true).
#[derive(Debug, Clone)]
pub struct SubWorkflow {
    workflow: Template,
    version: Option<u64>,
    input: Option<Template>,
    wait: bool,
}

impl SubWorkflow {
    pub(super) fn parse(mut reader: Reader<'_, '_>) -> Option<Self> {
        let workflow = reader.required_text("workflow").map(|text| Value::String(text.to_owned()));
        let workflow = workflow.and_then(|value| reader.template("workflow", &value, Credentials::Refused));
        if workflow.as_ref().is_some_and(Template::is_constant) && reader.text("workflow") == Some("") {
            reader.report("workflow", "invalid_value", "expected the id or the name of a workflow");
        }
        let version = reader.number("version", 1, u64::MAX);
        let input =
            reader.optional("input").and_then(|value| reader.template("input", value, Credentials::Refused));
        let wait = reader.flag("wait").unwrap_or(true);
        reader.finish();
        Some(Self { workflow: workflow?, version, input, wait })
    }

    pub(super) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        let workflow = self.workflow.render(scope, fuel).map_err(|e| StepError::render("/workflow", e))?;
        let Some(workflow) = workflow.as_str().filter(|text| !text.is_empty()) else {
            let message = "`workflow` must give the id or the name of a workflow";
            return Err(StepError::fail(ErrorKind::InvalidConfig, message, json!({"pointer": "/workflow"})));
        };
        let input = match &self.input {
            Some(template) => template.render(scope, fuel).map_err(|e| StepError::render("/input", e))?,
            None => Value::Null,
        };
        Ok(Step::StartChild(ChildRequest {
            workflow: workflow.to_owned(),
            version: self.version,
            input,
            wait: self.wait,
        }))
    }

    pub(super) fn references(&self) -> References {
        let mut all = self.workflow.references();
        if let Some(input) = &self.input {
            all.extend(&input.references());
        }
        all
    }
}
