//! Snapshots of a bank.

use super::Bank;
use crate::{Budget, Error, discovery::Discoveries, state::Columns, whiten::Whitening};

/// Version of the snapshot's columns.
const VERSION: u32 = 3;

impl Bank {
    /// The whole state, as one Arrow IPC stream of one record batch with one row a series.
    ///
    /// # Errors
    /// [`Error::Arrow`] where Arrow refuses to write.
    pub fn snapshot(&self) -> Result<Vec<u8>, Error> {
        let mut out = Columns::default();
        self.given.save("given", &mut out);
        self.seasonal.save(&mut out);
        self.shift.save(&mut out);
        self.sequence.save(&mut out)?;
        self.standing.save(&mut out)?;
        for watched in &self.watched {
            watched.watcher.save(&mut out)?;
        }
        if let Some(looks) = &self.looks {
            looks.save(&mut out);
        }
        if let Some(white) = &self.white {
            white.save(&mut out);
        }
        let account = self.budget.as_ref().map(Budget::save);
        out.encode(
            VERSION,
            account.or_else(|| self.discoveries.as_ref().map(Discoveries::save)),
        )
    }

    /// Takes the state over from a snapshot, with all of its series: what was registered before is forgotten.
    ///
    /// # Errors
    /// [`Error::Arrow`] or [`Error::Snapshot`] where the bytes are no snapshot of this version and shape; the bank is
    /// then as it was before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (from, rows, account) = Columns::decode(bytes, VERSION)?;
        let mut next = Self::new(&self.options)?;
        if self.white.is_some() {
            let mut white = Whitening::default();
            white.load(&from)?;
            next.white = Some(white);
        }
        if let Some(alarms) = &self.options.alarms {
            let account = account
                .clone()
                .ok_or_else(|| Error::Snapshot("it has no account of alarms".into()))?;
            next.budget = Some(Budget::load(alarms, &account)?);
        }
        if let Some(options) = self.options.discoveries {
            let account = account.ok_or_else(|| Error::Snapshot("it has no account of discoveries".into()))?;
            next.discoveries = Some(Discoveries::load(options, &account)?);
        }
        next.given.load("given", &from)?;
        next.seasonal.load(&from)?;
        next.shift.load(&from)?;
        next.sequence.load(&from)?;
        next.standing.load(&from)?;
        // what a snapshot was written without begins as new
        for watched in &mut next.watched {
            match from.has(watched.prefix()) {
                true => watched.watcher.load(&from, rows)?,
                false => (0..rows).for_each(|_| watched.watcher.push()),
            }
        }
        if let Some(looks) = &mut next.looks {
            match from.has("traits") {
                true => looks.load(&from)?,
                false => (0..rows).for_each(|_| looks.push()),
            }
        }
        debug_assert_eq!(next.len(), rows);
        *self = next;
        Ok(())
    }
}
