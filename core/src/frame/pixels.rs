//! How pictures are laid out in memory.

/// What the components of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Components {
    /// Red, green and blue.
    Rgb,
    /// Luma, blue difference and red difference: Y, Cb and Cr.
    Yuv,
    /// Luma alone.
    Gray,
}

/// Where the samples of one component lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// The plane.
    pub plane: usize,
    /// Samples in a row before the first one of this component.
    pub offset: usize,
    /// Samples from one of this component to the next.
    pub step: usize,
    /// Pixels that a sample covers, across and down: 2 and 2 for 4:2:0 chroma.
    pub covers: (usize, usize),
}

/// How a sample is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Bytes of a sample: 1, or 2 with the low one first.
    pub bytes: usize,
    /// Bits of a sample that count.
    pub bits: u32,
    /// Unused bits above them; unused bits below them are zero.
    pub shift: u32,
}

/// A format's components, in the order red, green, blue or Y, Cb, Cr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What they are.
    pub kind: Components,
    /// The components: three, or one of grey.
    pub components: &'static [Component],
    /// How each sample is stored.
    pub depth: Depth,
}

/// The formats: kind and depth of each, and where its components lie.
macro_rules! formats {
    ($($name:ident = $kind:ident $depth:ident [$($component:expr),*];)*) => {
        /// How a picture's samples are laid out in memory. The names are GStreamer's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum PixelFormat {
            $($name,)*
        }

        impl PixelFormat {
            /// Every format, for tests and tables.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            /// Where the components lie.
            pub const fn layout(self) -> Layout {
                match self {
                    $(Self::$name => {
                        const COMPONENTS: &[Component] = &[$($component),*];
                        Layout { kind: Components::$kind, components: COMPONENTS, depth: $depth }
                    },)*
                }
            }
        }
    };
}

formats! {
    Nv12 = Yuv BYTE [LUMA, at(1, 0, 2, (2, 2)), at(1, 1, 2, (2, 2))];
    Nv21 = Yuv BYTE [LUMA, at(1, 1, 2, (2, 2)), at(1, 0, 2, (2, 2))];
    Nv16 = Yuv BYTE [LUMA, at(1, 0, 2, (2, 1)), at(1, 1, 2, (2, 1))];
    Nv61 = Yuv BYTE [LUMA, at(1, 1, 2, (2, 1)), at(1, 0, 2, (2, 1))];
    Nv24 = Yuv BYTE [LUMA, at(1, 0, 2, (1, 1)), at(1, 1, 2, (1, 1))];
    I420 = Yuv BYTE [LUMA, at(1, 0, 1, (2, 2)), at(2, 0, 1, (2, 2))];
    Yv12 = Yuv BYTE [LUMA, at(2, 0, 1, (2, 2)), at(1, 0, 1, (2, 2))];
    Y41b = Yuv BYTE [LUMA, at(1, 0, 1, (4, 1)), at(2, 0, 1, (4, 1))];
    Y42b = Yuv BYTE [LUMA, at(1, 0, 1, (2, 1)), at(2, 0, 1, (2, 1))];
    Y444 = Yuv BYTE [LUMA, at(1, 0, 1, (1, 1)), at(2, 0, 1, (1, 1))];
    Yuy2 = Yuv BYTE [at(0, 0, 2, (1, 1)), at(0, 1, 4, (2, 1)), at(0, 3, 4, (2, 1))];
    Yvyu = Yuv BYTE [at(0, 0, 2, (1, 1)), at(0, 3, 4, (2, 1)), at(0, 1, 4, (2, 1))];
    Uyvy = Yuv BYTE [at(0, 1, 2, (1, 1)), at(0, 0, 4, (2, 1)), at(0, 2, 4, (2, 1))];
    Vyuy = Yuv BYTE [at(0, 1, 2, (1, 1)), at(0, 2, 4, (2, 1)), at(0, 0, 4, (2, 1))];
    P01010le = Yuv HIGH_10 [LUMA, at(1, 0, 2, (2, 2)), at(1, 1, 2, (2, 2))];
    I42010le = Yuv LOW_10 [LUMA, at(1, 0, 1, (2, 2)), at(2, 0, 1, (2, 2))];
    I42210le = Yuv LOW_10 [LUMA, at(1, 0, 1, (2, 1)), at(2, 0, 1, (2, 1))];
    Y44410le = Yuv LOW_10 [LUMA, at(1, 0, 1, (1, 1)), at(2, 0, 1, (1, 1))];
    Rgb = Rgb BYTE [packed(0, 3), packed(1, 3), packed(2, 3)];
    Bgr = Rgb BYTE [packed(2, 3), packed(1, 3), packed(0, 3)];
    Rgbx = Rgb BYTE [packed(0, 4), packed(1, 4), packed(2, 4)];
    Bgrx = Rgb BYTE [packed(2, 4), packed(1, 4), packed(0, 4)];
    Xrgb = Rgb BYTE [packed(1, 4), packed(2, 4), packed(3, 4)];
    Xbgr = Rgb BYTE [packed(3, 4), packed(2, 4), packed(1, 4)];
    Rgba = Rgb BYTE [packed(0, 4), packed(1, 4), packed(2, 4)];
    Bgra = Rgb BYTE [packed(2, 4), packed(1, 4), packed(0, 4)];
    Argb = Rgb BYTE [packed(1, 4), packed(2, 4), packed(3, 4)];
    Abgr = Rgb BYTE [packed(3, 4), packed(2, 4), packed(1, 4)];
    Gbr = Rgb BYTE [at(2, 0, 1, (1, 1)), at(0, 0, 1, (1, 1)), at(1, 0, 1, (1, 1))];
    Gray8 = Gray BYTE [LUMA];
    Gray16Le = Gray WORD [LUMA];
}

const BYTE: Depth = Depth { bytes: 1, bits: 8, shift: 0 };
const WORD: Depth = Depth { bytes: 2, bits: 16, shift: 0 };
/// Ten bits at the upper end of sixteen.
const HIGH_10: Depth = Depth { bytes: 2, bits: 10, shift: 0 };
/// Ten bits at the lower end of sixteen.
const LOW_10: Depth = Depth { bytes: 2, bits: 10, shift: 6 };

/// Luma in a plane of its own.
const LUMA: Component = at(0, 0, 1, (1, 1));

const fn at(plane: usize, offset: usize, step: usize, covers: (usize, usize)) -> Component {
    Component { plane, offset, step, covers }
}

/// A component of pixels of `step` samples.
const fn packed(offset: usize, step: usize) -> Component {
    at(0, offset, step, (1, 1))
}

impl PixelFormat {
    /// Number of planes in memory.
    pub fn planes(self) -> usize {
        self.layout().components.iter().map(|component| component.plane + 1).max().unwrap_or(0)
    }

    /// Width in groups, height in rows and bytes per group of plane `plane` in a picture of `width`
    /// x `height`. A group is what belongs to the same pixels: Cb and Cr of NV12, a pixel of RGB,
    /// two pixels of YUY2. Planes round up, so that odd sizes keep their last column and row.
    pub fn plane_size(self, plane: usize, width: usize, height: usize) -> (usize, usize, usize) {
        let (across, down) = self.group(plane);
        (width.div_ceil(across), height.div_ceil(down), self.group_bytes(plane))
    }

    /// Pixels that a group of plane `plane` covers, across and down.
    pub(crate) fn group(self, plane: usize) -> (usize, usize) {
        self.components(plane).fold((1, 1), |(across, down), component| {
            (across.max(component.covers.0), down.max(component.covers.1))
        })
    }

    pub(super) fn group_bytes(self, plane: usize) -> usize {
        let across = self.group(plane).0;
        let samples =
            self.components(plane).map(|component| component.step * across / component.covers.0);
        samples.max().unwrap_or(0) * self.layout().depth.bytes
    }

    /// The components that lie in plane `plane`.
    fn components(self, plane: usize) -> impl Iterator<Item = &'static Component> {
        self.layout().components.iter().filter(move |component| component.plane == plane)
    }
}
