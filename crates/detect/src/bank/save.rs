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
        self.recurring.save(self.len(), &mut out)?;
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
        *self = self.taken_from(&from, rows, account)?;
        Ok(())
    }

    /// Takes over some rows of snapshots of banks with the same options, one part after the other: the first row of the
    /// first is row 0. `account` is the snapshot whose account of alarms goes on, where there is one; else it begins anew.
    /// What was registered before is forgotten.
    ///
    /// # Errors
    /// As [`Self::restore`], and [`Error::Snapshot`] where a row is not there.
    pub fn restore_rows(&mut self, parts: &[(&[u8], &[u32])], account: Option<&[u8]>) -> Result<(), Error> {
        let mut selected = Vec::with_capacity(parts.len());
        for (bytes, rows) in parts {
            selected.push(Columns::decode(bytes, VERSION)?.0.select(rows)?);
        }
        let account = account.map(|bytes| Columns::decode(bytes, VERSION)).transpose()?;
        let account = account.and_then(|(_, _, account)| account);
        let begun = || {
            let own = self.options.alarms.as_ref().map(|alarms| Budget::new(alarms).save());
            own.or_else(|| self.options.discoveries.map(|options| Discoveries::new(options).save()))
        };
        let account = account.or_else(begun);
        let joined = Columns::join(selected)?;
        *self = match joined {
            Some((from, rows)) => self.taken_from(&from, rows, account)?,
            None => self.taken_from_nothing(account.as_deref())?,
        };
        Ok(())
    }

    /// A bank of the same options without a series, which goes on with an account of alarms.
    fn taken_from_nothing(&self, account: Option<&str>) -> Result<Self, Error> {
        let mut next = self.fresh()?;
        if let (Some(alarms), Some(account)) = (&self.options.alarms, account) {
            next.budget = Some(Budget::load(alarms, account)?);
        }
        if let (Some(options), Some(account)) = (self.options.discoveries, account) {
            next.discoveries = Some(Discoveries::load(options, account)?);
        }
        Ok(next)
    }

    /// A bank of the same options and kind with nothing in it.
    fn fresh(&self) -> Result<Self, Error> {
        let mut next = Self::new(&self.options)?;
        next.white = self.white.as_ref().map(|_| Whitening::default());
        Ok(next)
    }

    fn taken_from(&self, from: &Columns, rows: usize, account: Option<String>) -> Result<Self, Error> {
        if self.options.alarms.is_some() && account.is_none() {
            return Err(Error::Snapshot("it has no account of alarms".into()));
        }
        if self.options.discoveries.is_some() && account.is_none() {
            return Err(Error::Snapshot("it has no account of discoveries".into()));
        }
        let mut next = self.taken_from_nothing(account.as_deref())?;
        // what a snapshot was written without begins as new
        if let Some(white) = &mut next.white {
            match from.has("white") {
                true => white.load(from)?,
                false => (0..rows).for_each(|_| white.push()),
            }
        }
        next.given.load("given", from)?;
        next.seasonal.load(from)?;
        next.shift.load(from)?;
        next.sequence.load(from)?;
        next.standing.load(from)?;
        next.recurring.load(from)?;
        for watched in &mut next.watched {
            match from.has(watched.prefix()) {
                true => watched.watcher.load(from, rows)?,
                false => (0..rows).for_each(|_| watched.watcher.push()),
            }
        }
        if let Some(looks) = &mut next.looks {
            match from.has("traits") {
                true => looks.load(from)?,
                false => (0..rows).for_each(|_| looks.push()),
            }
        }
        debug_assert_eq!(next.len(), rows);
        Ok(next)
    }
}
