//! Builds of one plan, helped by what earlier builds have measured.

use std::path::PathBuf;

use super::{PlanRequest, folder, read};
use crate::tensorrt::builder::OnProgress;
use crate::tensorrt::files::{read_checked, short_digest, write_checked};
use crate::tensorrt::half::to_half;
use crate::tensorrt::log::{self, Severity};
use crate::tensorrt::{Build, Flavour, Precision, TensorRtError};

/// Builds what is asked for, and nothing else.
pub fn build(
    request: &PlanRequest<'_>,
    capabilities: &[u32],
    watch: OnProgress<'_>,
) -> Result<Vec<u8>, TensorRtError> {
    let mut onnx = read(request.onnx)?;
    let library = request.library;
    let takes_flags = (library.flavour(), library.version().major) == (Flavour::TensorRt, 10);
    let calibration = request.calibration.map(read).transpose()?;
    let half = match request.precision {
        Precision::Fp32 => false,
        // With a table, TensorRT 10 chooses the types itself, and its names must be those of the
        // graph that was calibrated.
        _ if calibration.is_some() && takes_flags => true,
        Precision::Fp16 | Precision::Int8 | Precision::Auto => {
            onnx = to_half(&onnx).map_err(|error| TensorRtError::File {
                path: request.onnx.display().to_string(),
                reason: error.to_string(),
            })?;
            false
        }
    };
    let place = timings_path(request);
    let timings = place.as_deref().and_then(read_checked).unwrap_or_default();
    let built = library.build(
        &Build {
            onnx: &onnx,
            input: request.input,
            max_batch: request.max_batch,
            half,
            calibration: calibration.as_deref(),
            capabilities,
            detailed: request.detailed,
            timings: &timings,
        },
        watch,
    )?;
    if let Some(place) = place.filter(|_| !built.timings.is_empty() && built.timings != timings)
        && let Err(error) = write_checked(&place, &built.timings)
    {
        log::tell(
            Severity::Info,
            &format!("{}: {error}: the next build measures anew", place.display()),
        );
    }
    Ok(built.plan)
}

/// Where the times lie that builds of this library on this model of GPU have measured; `None` for
/// TensorRT-RTX, which measures nothing.
fn timings_path(request: &PlanRequest<'_>) -> Option<PathBuf> {
    let library = request.library;
    let (capability, model) = (request.capability, short_digest(request.gpu));
    let name = format!(
        "timings-sm{capability}-{model}-{}-{}.cache",
        library.flavour().name(),
        library.version()
    );
    (library.flavour() == Flavour::TensorRt).then_some(folder()?.join(name))
}
