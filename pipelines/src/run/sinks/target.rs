//! What a worker sends to.

use vehiclecount_core::publish::SinkError;

use super::record::Record;

/// What takes records.
pub trait Target {
    /// Sends records, for some time or until it has all of them. Gives how many it has, from the
    /// first one on. The next call begins with the first that it has not.
    ///
    /// # Errors
    /// It cannot go on; the error says how many it has. Another target is opened then.
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError>;

    /// To be called again and again, when nothing is on its way.
    ///
    /// # Errors
    /// As above.
    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// To be called when the service ends and all has been sent.
    ///
    /// # Errors
    /// As above.
    fn end(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
