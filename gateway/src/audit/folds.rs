//! Denied attempts that are alike, folded: the first is told at once, those of the seconds after it together.
//!
//! Pure but for the time, which the caller says. Bounded: with too many kinds at once the rest is not folded.

use domain::audit::event::AuditEntry;
use domain::ids::TenantId;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long attempts are folded.
const WINDOW: Duration = Duration::from_secs(5);
/// How many kinds at once.
const MOST: usize = 1_000;

/// What attempts have in common that are told together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Like {
    tenant: TenantId,
    actor: String,
    ip: Option<String>,
    route: String,
    code: Option<String>,
}

#[derive(Debug)]
struct Fold {
    until: Instant,
    /// The last one after the first, with how many there were.
    last: Option<AuditEntry>,
}

/// Attempts that are being folded.
#[derive(Debug, Default)]
pub(super) struct Folds(HashMap<Like, Fold>);

impl Folds {
    /// One more: itself, if it is to be told at once.
    pub(super) fn add(&mut self, tenant: &TenantId, entry: AuditEntry, now: Instant) -> Option<AuditEntry> {
        let like = Like {
            tenant: tenant.clone(),
            actor: entry.actor.as_str().to_owned(),
            ip: entry.ip.clone(),
            route: entry.route.clone(),
            code: entry.code.clone(),
        };
        if let Some(fold) = self.0.get_mut(&like) {
            let before = fold.last.as_ref().map_or(0, |last| last.count);
            fold.last = Some(AuditEntry { count: before.saturating_add(entry.count), ..entry });
            return None;
        }
        if self.0.len() < MOST {
            self.0.insert(like, Fold { until: now + WINDOW, last: None });
        }
        Some(entry)
    }

    /// Those whose time is over.
    pub(super) fn over(&mut self, now: Instant) -> Vec<(TenantId, AuditEntry)> {
        self.close(|fold| fold.until <= now)
    }

    /// All of them.
    pub(super) fn all(&mut self) -> Vec<(TenantId, AuditEntry)> {
        self.close(|_| true)
    }

    fn close(&mut self, is_over: impl Fn(&Fold) -> bool) -> Vec<(TenantId, AuditEntry)> {
        let over = self.0.extract_if(|_, fold| is_over(fold));
        over.filter_map(|(like, fold)| fold.last.map(|last| (like.tenant, last))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::audit::event::AuditResult;
    use domain::ids::Actor;
    use domain::time::Timestamp;

    fn denied(actor: &str, ip: &str) -> AuditEntry {
        AuditEntry {
            id: uuid::Uuid::nil(),
            at: Timestamp::default(),
            actor: Actor::recorded(actor),
            user: None,
            action: "Denied".to_owned(),
            permission: None,
            route: "GET /api/v1/audit".to_owned(),
            resource: None,
            result: AuditResult::Denied,
            code: Some("forbidden".to_owned()),
            position: None,
            ip: Some(ip.to_owned()),
            user_agent: None,
            request_id: None,
            count: 1,
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_together() {
        let (mut folds, tenant, now) = (Folds::default(), TenantId::default_tenant(), Instant::now());
        assert!(folds.add(&tenant, denied("user:1", "192.0.2.1"), now).is_some());
        for _ in 0..3 {
            assert!(folds.add(&tenant, denied("user:1", "192.0.2.1"), now).is_none());
        }
        assert!(folds.add(&tenant, denied("user:2", "192.0.2.1"), now).is_some(), "of somebody else");
        assert!(folds.add(&tenant, denied("user:1", "192.0.2.2"), now).is_some(), "from elsewhere");
        assert!(folds.over(now).is_empty());
        let over = folds.over(now + WINDOW);
        assert_eq!(over.iter().map(|(_, entry)| entry.count).collect::<Vec<_>>(), [3]);
        assert!(folds.add(&tenant, denied("user:1", "192.0.2.1"), now + WINDOW).is_some());
    }

    #[test]
    fn there_are_never_too_many_kinds() {
        let (mut folds, tenant, now) = (Folds::default(), TenantId::default_tenant(), Instant::now());
        for number in 0..2 * MOST {
            assert!(folds.add(&tenant, denied("anonymous:-", &number.to_string()), now).is_some());
        }
        assert_eq!(folds.0.len(), MOST);
        assert!(folds.all().is_empty());
    }
}
