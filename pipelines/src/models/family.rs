//! The networks that there are recipes for, and what each is to reach.

/// A network with a recipe in engines/recipes/.
pub(super) struct Member {
    /// Name of the recipe and of its model.
    pub name: &'static str,
    /// The backbone as timm calls it, and the decoder.
    pub network: &'static str,
    /// Goal: millions of parameters at most.
    pub parameters: f64,
    /// Goal: megabytes of the FP32 file at most.
    pub megabytes: f64,
    /// Goal: percent of error, at most, beyond that of [`BASE`].
    pub error: f64,
    /// Goal: images a second on a GPU of the class of an RTX 5090.
    pub rate: f64,
}

/// The network that errors are compared with.
pub(super) const BASE: &str = "resnet50-fpn";

const fn member(
    name: &'static str,
    network: &'static str,
    [parameters, megabytes, error, rate]: [f64; 4],
) -> Member {
    Member { name, network, parameters, megabytes, error, rate }
}

/// The family, the largest first.
pub(super) const FAMILY: [Member; 7] = [
    member(BASE, "resnet50, four-level FPN", [25.0, 102.0, 0.0, 408.0]),
    member("resnet18", "resnet18, FPN", [11.0, 45.0, 5.0, 700.0]),
    member("efficientnet-b0", "efficientnet_b0, FPN", [5.0, 22.0, 9.0, 800.0]),
    member("mobilenetv3-large", "mobilenetv3_large_100, FPN", [5.0, 20.0, 12.0, 1000.0]),
    member("mobilenetv3-small", "mobilenetv3_small_100, FPN", [2.5, 10.0, 25.0, 1500.0]),
    member("ghostnetv2", "ghostnetv2_100, FPN", [4.9, 20.0, 15.0, 1200.0]),
    member("tinyvit-5m", "tiny_vit_5m_224, FPN", [5.0, 20.0, 9.0, 900.0]),
];
