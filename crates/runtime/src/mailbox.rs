//! The bounded queue between the thread that polls and a shard's thread.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use suture_log::Batch;

static GENERATIONS: AtomicU64 = AtomicU64::new(0);

/// How a shard is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Commit what is done, then let go.
    Release,
    /// Another process has the partition already: let go.
    Lost,
}

/// What a shard finds in its mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    Batch(Batch),
    Nothing,
    Ending(Ending),
}

/// Batches on their way to one shard. While it is *deaf*, everything put in is thrown away: between the moment when a
/// shard starts anew and the one when the consumer has gone back to its position.
pub(crate) struct Mailbox {
    limit: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Batch>,
    spare: Vec<Batch>,
    /// The shard has a batch that it is not done with.
    out: bool,
    /// Which start of a shard this is, among all of the process.
    generation: u64,
    hears: bool,
    ending: Option<Ending>,
    finished: bool,
}

impl Mailbox {
    /// An empty mailbox for at most `limit` batches, deaf.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            inner: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start of the shard that is under way.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Puts in a batch that was fetched for that generation, and throws it away if that is over. Gives it back where there
    /// is no room.
    pub(crate) fn put(&self, batch: Batch, generation: u64) -> Result<(), Batch> {
        let mut inner = self.lock();
        if !inner.hears || inner.generation != generation || inner.ending.is_some() || inner.finished {
            return Ok(());
        }
        if inner.queue.len() >= self.limit {
            return Err(batch);
        }
        inner.queue.push_back(batch);
        self.changed.notify_all();
        Ok(())
    }

    /// Whether no more than half of the room is taken.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().queue.len() <= self.limit / 2
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Whether nothing waits here or with the shard.
    pub(crate) fn is_done(&self) -> bool {
        let inner = self.lock();
        inner.queue.is_empty() && !inner.out
    }

    /// The shard is done with the batch that it took.
    pub(crate) fn done(&self, batch: Batch) {
        self.lock().out = false;
        self.recycle(batch);
    }

    /// An empty batch, with the memory of one that was given back if there is any.
    pub(crate) fn blank(&self) -> Batch {
        self.lock().spare.pop().unwrap_or_default()
    }

    /// Gives a batch's memory back.
    pub(crate) fn recycle(&self, mut batch: Batch) {
        batch.clear();
        let mut inner = self.lock();
        if inner.spare.len() < self.limit {
            inner.spare.push(batch);
        }
    }

    /// The next batch, waited for; an ending comes before all batches.
    pub(crate) fn take(&self, timeout: Duration) -> Mail {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            if let Some(ending) = inner.ending {
                return Mail::Ending(ending);
            }
            if let Some(batch) = inner.queue.pop_front() {
                inner.out = true;
                return Mail::Batch(batch);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Mail::Nothing;
            }
            inner = self
                .changed
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for an ending, no longer than `timeout`.
    pub(crate) fn wait_for_ending(&self, timeout: Duration) -> Option<Ending> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.ending.is_some() || left.is_zero() {
                return inner.ending;
            }
            inner = self
                .changed
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The shard starts anew: throws away what waits, and goes deaf. Gives the generation that [`Self::listen`] takes.
    pub(crate) fn reset(&self) -> u64 {
        let mut inner = self.lock();
        inner.queue.clear();
        inner.out = false;
        inner.hears = false;
        // one count for all mailboxes: no wish of a shard that is gone is ever taken for that of its successor
        inner.generation = GENERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
        inner.generation
    }

    /// The consumer stands where the shard of that generation begins.
    pub(crate) fn listen(&self, generation: u64) {
        let mut inner = self.lock();
        if inner.generation == generation {
            inner.hears = true;
        }
    }

    /// Tells the shard to end.
    pub(crate) fn end(&self, ending: Ending) {
        let mut inner = self.lock();
        // what is lost stays lost
        if inner.ending != Some(Ending::Lost) {
            inner.ending = Some(ending);
        }
        inner.queue.clear();
        self.changed.notify_all();
    }

    /// Says that the shard has ended.
    pub(crate) fn finish(&self) {
        let mut inner = self.lock();
        inner.finished = true;
        inner.queue.clear();
        self.changed.notify_all();
    }

    /// Waits until the shard has ended; `false` where it has not by then.
    pub(crate) fn wait_for_finish(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        while !inner.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self
                .changed
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use suture_log::{Headers, RecordRef};

    use super::*;

    fn batch(offset: i64) -> Batch {
        let mut batch = Batch::new();
        batch.push(RecordRef {
            offset,
            timestamp: None,
            key: None,
            value: None,
            headers: Headers::default(),
        });
        batch
    }

    fn offset(mail: &Mail) -> Option<i64> {
        match mail {
            Mail::Batch(batch) => batch.last().map(|record| record.offset),
            Mail::Nothing | Mail::Ending(_) => None,
        }
    }

    #[test]
    fn a_full_mailbox_gives_the_batch_back() {
        let mailbox = Mailbox::new(2);
        let generation = mailbox.reset();
        mailbox.listen(generation);
        assert!(mailbox.put(batch(0), generation).is_ok() && mailbox.put(batch(1), generation).is_ok());
        assert_eq!(mailbox.put(batch(2), generation).unwrap_err().len(), 1);
        assert!(!mailbox.has_room());
        assert_eq!(offset(&mailbox.take(Duration::ZERO)), Some(0));
        assert!(mailbox.has_room() && !mailbox.is_empty());
        assert_eq!(offset(&mailbox.take(Duration::ZERO)), Some(1));
        assert!(mailbox.is_empty() && !mailbox.is_done());
        mailbox.done(batch(1));
        assert!(mailbox.is_done());
    }

    #[test]
    fn what_was_fetched_before_a_new_start_is_never_seen_after_it() {
        let mailbox = Mailbox::new(8);
        let first = mailbox.reset();
        mailbox.listen(first);
        mailbox.put(batch(0), first).unwrap();
        let second = mailbox.reset();
        mailbox.put(batch(1), first).unwrap();
        let third = mailbox.reset();
        mailbox.listen(second);
        mailbox.put(batch(2), second).unwrap();
        assert!(mailbox.is_empty(), "the consumer went back for a start that is over");
        mailbox.listen(third);
        mailbox.put(batch(4), second).unwrap();
        mailbox.put(batch(3), third).unwrap();
        assert_eq!(offset(&mailbox.take(Duration::ZERO)), Some(3));
        assert!(matches!(mailbox.take(Duration::ZERO), Mail::Nothing));
    }

    #[test]
    fn an_ending_comes_before_all_batches_and_lost_stays_lost() {
        let mailbox = Mailbox::new(8);
        let generation = mailbox.reset();
        mailbox.listen(generation);
        mailbox.put(batch(0), generation).unwrap();
        mailbox.end(Ending::Lost);
        mailbox.end(Ending::Release);
        assert!(matches!(mailbox.take(Duration::ZERO), Mail::Ending(Ending::Lost)));
        assert!(!mailbox.wait_for_finish(Duration::ZERO));
        mailbox.finish();
        assert!(mailbox.wait_for_finish(Duration::ZERO));
    }
}
