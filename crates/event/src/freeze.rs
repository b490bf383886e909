//! Whether a scope is frozen, as commands say it: decide and executors read it off the same commands by the same rule.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Command, CommandKind, FreezeEpoch, Timestamp};

/// What freezes and thaws have come to.
///
/// A command that is no newer than the last one that was followed changes nothing, so that an old one that is written again
/// neither thaws nor freezes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freezes {
    epoch: FreezeEpoch,
    frozen_by: Option<Arc<str>>,
    last: Option<(Timestamp, Arc<str>)>,
}

impl Freezes {
    /// Follows a freeze or a thaw; other commands are passed over.
    ///
    /// # Errors
    /// Why it is not followed.
    pub fn follow(&mut self, command: &Command) -> Result<(), String> {
        let freezes = match command.kind {
            CommandKind::Freeze => true,
            CommandKind::Thaw => false,
            _ => return Ok(()),
        };
        if let Some((at, id)) = &self.last
            && (command.at < *at || command.id == *id)
        {
            return Err(format!(
                "it is older than the last freeze or thaw, of {at}: it was said before, or the clock is behind"
            ));
        }
        if freezes {
            self.epoch.number += 1;
            self.epoch.freeze = Some(Arc::clone(&command.id));
            self.frozen_by = Some(Arc::clone(&command.by));
        } else if self.frozen_by.take().is_none() {
            return Err("nobody froze the scope".to_owned());
        }
        self.last = Some((command.at, Arc::clone(&command.id)));
        Ok(())
    }

    /// Who froze it last, while it is frozen.
    #[must_use]
    pub const fn frozen_by(&self) -> Option<&Arc<str>> {
        self.frozen_by.as_ref()
    }

    /// The freezes so far.
    #[must_use]
    pub const fn epoch(&self) -> &FreezeEpoch {
        &self.epoch
    }

    /// Why a permit of some epoch does not hold any more, if it does not. Where no freeze is known here, as when the commands
    /// have outlived their topic's retention, every epoch is taken.
    ///
    /// # Errors
    /// Why, in words.
    pub fn allows(&self, epoch: &FreezeEpoch) -> Result<(), String> {
        if let Some(by) = &self.frozen_by {
            return Err(format!("{by} froze the scope"));
        }
        if self.epoch.freeze.is_some() && self.epoch.freeze != epoch.freeze {
            return Err(format!(
                "the permit is of freeze epoch {}, and the scope was frozen since",
                epoch.number
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str, at: i64, kind: CommandKind) -> Command {
        Command {
            id: id.into(),
            at: Timestamp::from_millis(at),
            by: "ann".into(),
            scope: "prod".into(),
            kind,
            reason: "storm".to_owned(),
            seal: None,
        }
    }

    #[test]
    fn a_permit_ends_with_the_next_freeze_and_not_with_the_thaw() {
        let mut freezes = Freezes::default();
        let before = freezes.epoch().clone();
        assert_eq!(freezes.allows(&before), Ok(()));
        freezes.follow(&command("f1", 10, CommandKind::Freeze)).unwrap();
        assert!(freezes.allows(&before).is_err());
        assert!(freezes.allows(&freezes.epoch().clone()).is_err(), "it is frozen");
        freezes.follow(&command("t1", 20, CommandKind::Thaw)).unwrap();
        assert!(freezes.allows(&before).is_err(), "it is of the epoch before");
        assert_eq!(freezes.allows(&freezes.epoch().clone()), Ok(()));
        assert_eq!(freezes.epoch().number, 1);
    }

    #[test]
    fn a_command_that_is_written_again_changes_nothing() {
        let mut freezes = Freezes::default();
        let (freeze, thaw) = (
            command("f1", 10, CommandKind::Freeze),
            command("t1", 20, CommandKind::Thaw),
        );
        freezes.follow(&freeze).unwrap();
        freezes.follow(&thaw).unwrap();
        assert!(freezes.follow(&freeze).is_err());
        assert_eq!(freezes.frozen_by(), None);
        freezes.follow(&command("f2", 30, CommandKind::Freeze)).unwrap();
        assert!(freezes.follow(&thaw).is_err());
        assert_eq!(freezes.frozen_by().map(|by| &**by), Some("ann"));
    }
}
