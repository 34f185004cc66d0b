//! Everything that the bus does in the background, so that it can be ended and waited for.

use std::future::Future;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The background tasks of a bus. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lifetime {
    /// Cancelled when they are to end.
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
}

impl Lifetime {
    /// On the runtime that this is called on.
    pub(super) fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: TaskTracker::new(), runtime: Handle::current() }
    }

    /// A part of it that can be ended by itself.
    pub(super) fn part(&self) -> Self {
        Self { stop: self.stop.child_token(), tasks: self.tasks.clone(), runtime: self.runtime.clone() }
    }

    /// Starts one.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Tells all of them to end and waits until they have.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
