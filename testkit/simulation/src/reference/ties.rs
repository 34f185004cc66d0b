//! What may as well be the other way round: merges that fire early, and what else happens at that instant.
//!
//! Nothing in the format orders the engine's own nodes within one instant. If a merge fires early, what can only lead
//! into it is cancelled; a chain of such nodes that goes on at that same instant may have been cancelled before, in
//! between or after. All of that is right, and nobody is held to the order that happens to be taken here.

use super::course::{Course, Scope, join};
use super::document::kind;

impl<'a> Course<'a> {
    /// Something happens to a node now, and so to the containers that it is in.
    pub(super) fn touch(&mut self, path: &str) {
        let (now, mut path) = (self.now, path);
        loop {
            if let Some(node) = self.node(path) {
                node.touched = Some(now);
            }
            // `container/number/node`
            let around = path.rsplit_once('/').and_then(|(scope, _)| scope.rsplit_once('/'));
            let Some((container, _)) = around else { return };
            path = container;
        }
    }

    /// A merge fires: what can only lead into it and was touched at this instant need not have been, unless the
    /// inputs that it fires with came from there.
    ///
    /// Called whether or not it fires early: in another order it would have.
    pub(super) fn look_for_ties(&mut self, scope_path: &str, merge: &'a str, taken: &[&'a str]) {
        let scope = &self.scopes[scope_path];
        let graph = &scope.graph;
        if scope.needed(merge).is_none_or(|needed| needed >= graph.incoming(merge).len()) {
            return;
        }
        let mut unneeded = graph.only_into(merge);
        for source in taken.iter().copied() {
            let needed = graph.leading_to(source);
            unneeded.retain(|id| !needed.contains(id));
        }
        if !unneeded.iter().any(|id| scope.nodes[id].touched == Some(self.now)) {
            return;
        }
        let elsewhere = graph.nodes.iter().filter(|(id, _)| !unneeded.contains(*id));
        let text: String = elsewhere.map(|(_, node)| node.to_string()).collect();
        if let Some(read) = unneeded.iter().find(|id| text.contains(&format!("nodes.{id}.output"))) {
            self.ambiguous
                .get_or_insert_with(|| format!("{read}, which others read, may be cancelled by {merge}"));
        }
        self.either_way.extend(unneeded.into_iter().map(|id| join(scope_path, id)));
    }

    /// A node fails its scope while another is ready, which may as well come first and fail, or stop this one.
    pub(super) fn fails_beside_others(&mut self, scope_path: &str, failed: &str) {
        // Only what ends with it: the rest goes on as well after it as before.
        let container = scope_path.rsplit_once('/').map_or("", |(container, _)| container);
        let ending = |(path, scope): &(&String, &Scope<'a>)| path.starts_with(container) && !scope.done;
        let other = self.scopes.iter().filter(ending).find_map(|(path, scope)| {
            let mut ready = scope.graph.nodes.iter().filter(|(id, _)| scope.is_ready(id));
            ready.find(|(_, node)| kind(node) != "end").map(|(id, _)| join(path, id))
        });
        if let Some(other) = other {
            let failed = join(scope_path, failed);
            self.ambiguous.get_or_insert_with(|| format!("{other} may begin before {failed} fails"));
        }
    }

    /// A node fails its scope: a merge may have cancelled it before, if that could fire at this
    /// instant or something else led there.
    pub(super) fn fails_beside_a_merge(&mut self, scope_path: &str, failed: &str) {
        let scope = &self.scopes[scope_path];
        let graph = &scope.graph;
        let merges = graph.nodes.keys().filter(|id| scope.needed(id).is_some() && scope.is_idle(id));
        let tied = merges.copied().find(|merge| {
            let mut others = graph.leading_to(merge);
            others.retain(|id| *id != *merge && !graph.region(id).contains(failed));
            let goes_on = |id: &&str| scope.nodes[*id].touched == Some(self.now) || scope.is_ready(id);
            graph.only_into(merge).contains(failed) && (scope.is_ready(merge) || others.iter().any(goes_on))
        });
        if let Some(merge) = tied {
            self.ambiguous.get_or_insert_with(|| format!("{merge} may fire before {failed} fails"));
        }
    }
}
