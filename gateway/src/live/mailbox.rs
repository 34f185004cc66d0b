//! A bounded mailbox that never makes its sender wait: what does not fit is dropped, and that is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// The sender's side.
#[derive(Debug)]
pub(super) struct Postbox<T> {
    sender: mpsc::Sender<Option<T>>,
    lagged: Arc<AtomicBool>,
}

/// The reader's side.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    receiver: mpsc::Receiver<Option<T>>,
    lagged: Arc<AtomicBool>,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mail<T> {
    /// The next message.
    Item(T),
    /// Messages are missing: read the log.
    Lagged,
    /// There is no sender any more.
    Closed,
}

/// A mailbox with its sender.
pub(super) fn mailbox<T>(capacity: usize) -> (Postbox<T>, Mailbox<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let lagged = Arc::new(AtomicBool::new(false));
    (Postbox { sender, lagged: lagged.clone() }, Mailbox { receiver, lagged })
}

impl<T> Postbox<T> {
    /// Delivers a message, or notes that one is missing.
    pub(super) fn post(&self, message: T) {
        self.offer(Some(message));
    }

    /// Notes that messages are missing, and wakes the reader.
    pub(super) fn lag(&self) {
        self.lagged.store(true, Ordering::Release);
        self.offer(None);
    }

    fn offer(&self, message: Option<T>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(message) {
            // A full mailbox has messages to wake its reader with, so the mark is seen.
            self.lagged.store(true, Ordering::Release);
        }
    }
}

impl<T> Mailbox<T> {
    /// The next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Mail<T> {
        loop {
            if self.lagged.swap(false, Ordering::AcqRel) {
                return Mail::Lagged;
            }
            match self.receiver.recv().await {
                Some(Some(message)) => return Mail::Item(message),
                // The mark that came with it is seen above.
                Some(None) => {}
                None => return Mail::Closed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_mailbox_remembers_that_messages_are_missing() {
        let (postbox, mut mailbox) = mailbox(2);
        for number in 0..3 {
            postbox.post(number);
        }
        assert_eq!(mailbox.next().await, Mail::Lagged);
        assert_eq!(mailbox.next().await, Mail::Item(0));
        assert_eq!(mailbox.next().await, Mail::Item(1));
        postbox.lag();
        assert_eq!(mailbox.next().await, Mail::Lagged);
        drop(postbox);
        assert_eq!(mailbox.next().await, Mail::Closed);
    }
}
