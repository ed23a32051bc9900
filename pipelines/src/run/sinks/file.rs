//! A file of lines, written by the sink that `vehiclecountpublish` has.

use std::path::Path;
use std::sync::Arc;

use vehiclecount_core::publish::sink::{Destination, Rotation};
use vehiclecount_core::publish::{Report, Sink, SinkError, SinkSettings};

use super::record::Record;
use super::target::Target;

/// An open file.
pub struct FileTarget(Box<dyn Sink>);

impl FileTarget {
    /// Opens the file at an absolute `path`, or makes it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, rotation: &Rotation) -> Result<Self, SinkError> {
        let settings = SinkSettings { append: true, rotation: rotation.clone() };
        let path = path.to_str().ok_or_else(|| SinkError::permanent("its path is not UTF-8"))?;
        let destination = Destination::parse(path, &settings);
        let mut destination =
            destination.map_err(|error| SinkError::permanent(error.to_string()))?;
        (destination.open)(&(Arc::new(|_| {}) as Arc<_>)).map(Self)
    }
}

impl Target for FileTarget {
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError> {
        let report = |record: &Record| Report {
            camera: record.camera.clone(),
            unique_id: 0,
            json: record.json.clone(),
        };
        let reports: Vec<_> = records.iter().map(report).collect();
        self.0.send(&reports).map(|sent| sent.delivered)
    }
}
