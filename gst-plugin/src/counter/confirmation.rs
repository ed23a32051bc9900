//! Frames that need no count of their own, because they do not differ from a counted one
//! (`skip-unchanged`).

use vehiclecount_core::change::ChangeDetector;
use vehiclecount_core::frame::FrameView;
use vehiclecount_core::preprocess::Placement;

use super::camera::{Camera, Link};

/// Which frame is compared with which.
#[derive(Clone, Copy)]
pub(super) struct Confirmation {
    /// Number of the frame that comes.
    pub number: u64,
    /// Number of the frame whose count it may carry.
    pub of: Option<u64>,
}

impl Camera {
    /// Whether the frame that `view` shows does not differ from the one whose count it may carry.
    /// Where it does, later ones are compared with it.
    pub(super) fn is_unchanged(
        &self,
        link: &Link,
        view: &FrameView<'_>,
        Confirmation { number, of }: Confirmation,
    ) -> bool {
        let (format, instance) = (view.format(), link.seat.instance());
        // As large as the closest look shows the frame.
        let input = self.looks.lock().scale(instance.info().input);
        let placement = Placement::new(link.resize, format.width, format.height, input);
        let mut held = self.changes.lock();
        let detector = ChangeDetector::held(&mut held, format, placement);
        let same_as = detector.compare(view);
        if same_as.is_some() && same_as == of {
            return true;
        }
        detector.keep(number);
        false
    }
}
