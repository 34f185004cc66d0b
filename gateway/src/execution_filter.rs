//! Which executions are meant: the parameters of `GET /executions`, which are a bulk job's filter too.

use domain::execution::ExecutionStatus;
use read_models::{AttributeFilter, Compare, ExecutionFilter};
use serde_json::Value;

use crate::failure::Failure;
use crate::request::Query;

/// The parameters that choose. One that ends in `.` stands for all that begin so.
pub(crate) const PARAMETERS: [&str; 9] =
    ["workflow_id", "parent", "origin", "owner", "status", "started_after", "started_before", "q", "attr."];

/// How an attribute can be compared, as it stands behind its name: `attr.total[gte]=100`.
const COMPARISONS: [(&str, Compare); 6] = [
    ("[eq]", Compare::Equal),
    ("[ne]", Compare::NotEqual),
    ("[lt]", Compare::Less),
    ("[lte]", Compare::AtMost),
    ("[gt]", Compare::Greater),
    ("[gte]", Compare::AtLeast),
];

/// The filter that a query says.
pub(crate) fn read(query: &Query) -> Result<ExecutionFilter, Failure> {
    let statuses = query.text("status").map(statuses).transpose()?.unwrap_or_default();
    let q = query.text("q");
    // Databases end a text at a NUL or refuse it: what was searched for would not be what was meant.
    if q.is_some_and(|text| text.contains('\0')) {
        return Err(Failure::parameter("q", "`q` must not have a NUL character"));
    }
    Ok(ExecutionFilter {
        workflow_id: query.id("workflow_id")?,
        parent: query.id("parent")?,
        origin: query.id("origin")?,
        owner: query.id("owner")?,
        statuses,
        started_after: query.time("started_after")?,
        started_before: query.time("started_before")?,
        q: q.map(str::to_owned),
        attributes: query
            .prefixed("attr.")
            .map(|(name, value)| attribute(name, value))
            .collect::<Result<_, _>>()?,
    })
}

/// One or several, with commas between.
fn statuses(text: &str) -> Result<Vec<ExecutionStatus>, Failure> {
    let parse = |one: &str| {
        serde_json::from_value(Value::from(one.trim())).map_err(|_| {
            let detail = "`status` must be one or, with commas, several of pending, running, waiting, paused, \
                compensating, completed, failed, cancelled, terminated";
            Failure::parameter("status", detail)
        })
    };
    let mut found: Vec<ExecutionStatus> = Vec::new();
    for status in text.split(',').map(parse) {
        let status = status?;
        if !found.contains(&status) {
            found.push(status);
        }
    }
    Ok(found)
}

fn attribute(name: &str, value: &str) -> Result<AttributeFilter, Failure> {
    let shown: String = name.chars().take(64).collect();
    let refuse = |detail: &str| Err(Failure::parameter(&format!("attr.{shown}"), detail));
    if name.contains('\0') || value.contains('\0') {
        return refuse("an attribute must not have a NUL character");
    }
    let compared =
        COMPARISONS.iter().find_map(|(suffix, compare)| Some((name.strip_suffix(suffix)?, *compare)));
    let (key, compare) = compared.unwrap_or((name, Compare::Equal));
    if key.is_empty() || (compared.is_none() && key.ends_with(']') && key.contains('[')) {
        return refuse(
            "name an attribute, and compare it with [eq], [ne], [lt], [lte], [gt] or [gte], as in `attr.total[gte]=100`",
        );
    }
    Ok(AttributeFilter { key: key.to_owned(), compare, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pairs: &[(&str, &str)]) -> Result<ExecutionFilter, Failure> {
        read(&Query::of_pairs(
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ))
    }

    #[test]
    fn several_statuses_stand_with_commas_between() {
        let found = filter(&[("status", "failed, running,failed")]).expect("a filter").statuses;
        assert_eq!(found, [ExecutionStatus::Failed, ExecutionStatus::Running]);
        for bad in ["done", "failed,", "Failed"] {
            assert!(filter(&[("status", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_attribute_is_compared_as_its_name_says() {
        let found = filter(&[("attr.total[gte]", "100"), ("attr.repo", "x")]).expect("a filter").attributes;
        assert_eq!((found[0].key.as_str(), found[0].compare), ("total", Compare::AtLeast));
        assert_eq!(found[1], AttributeFilter::equal("repo", "x"));
    }

    #[test]
    fn what_would_find_something_else_than_was_meant_is_refused() {
        for bad in
            [("attr.total[ge]", "1"), ("attr.", "1"), ("attr.[eq]", "1"), ("attr.a", "\0"), ("q", "a\0")]
        {
            assert!(filter(&[bad]).is_err(), "{bad:?}");
        }
    }
}
