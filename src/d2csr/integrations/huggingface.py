"""Networks as models of huggingface_hub: `save_pretrained`, and `from_pretrained` of a folder."""

from pathlib import Path
from typing import Any, final

from huggingface_hub import (
    EvalResult,
    ModelCardData,
    PyTorchModelHubMixin,
)
from huggingface_hub import ModelCard as HubCard
from jaxtyping import Float
from torch import Tensor, nn

from d2csr.core.bundle import ModelCard, ModelMetadata
from d2csr.core.bundle_readme import README_NAME, render_readme
from d2csr.core.config import ModelConfig
from d2csr.core.errors import UsageError
from d2csr.models.d2csr import D2CSR

_TAGS = ("super-resolution", "image-restoration", "photography", "d2c-sr")


@final
class HubModel(nn.Module, PyTorchModelHubMixin):
    """A network whose folder has `config.json` and `model.safetensors`. It returns SR alone.

    Example:
        ```python
        from d2csr.integrations.huggingface import HubModel

        model = HubModel.from_pretrained("exported/photo-x2")
        sr = model(lr)  # (1, 3, h, w) -> (1, 3, 2 h, 2 w), RGB, range 0 to 1
        ```
    """

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the network of a configuration, as `ModelConfig.to_dict` returns it."""
        super().__init__()
        self.network = D2CSR(ModelConfig.from_dict(config))

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 sh sw"]:
        """Return SR for RGB images in 0..1; not clipped."""
        return self.network(lr).sr

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **options: Any
    ) -> "HubModel":
        """Return the model in a folder; nothing is ever downloaded.

        Args:
            pretrained_model_name_or_path: a folder, as `save_pretrained` writes it.
            options: of `PyTorchModelHubMixin.from_pretrained`, such as `map_location`.

        Raises:
            UsageError: there is no such folder.
        """
        folder = Path(pretrained_model_name_or_path)
        if not (folder / "config.json").is_file():
            remedy = "Give a folder that `d2csr export --to huggingface` wrote, or download it."
            raise UsageError(folder, "is no folder with a config.json", remedy)
        return super().from_pretrained(str(folder), **options, local_files_only=True)


def save_for_hub(network: D2CSR, folder: Path, *, card: ModelCard) -> None:
    """Write a network with its model card; the folder can be uploaded as it is.

    Args:
        network: its weights are copied.
        folder: created if it doesn't exist.
        card: of the model, which becomes the readme with metadata for the website's search.
    """
    model = HubModel(network.config.to_dict())
    model.network.load_state_dict(network.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    header = _card_data(card.metadata).to_yaml()
    text = f"---\n{header}\n---\n\n{render_readme(card)}"
    HubCard(text, ignore_metadata_errors=False).save(folder / README_NAME)
    model.save_pretrained(folder)  # keeps the readme that is there


def _card_data(metadata: ModelMetadata) -> ModelCardData:
    is_stated = " " not in metadata.licence and metadata.licence != "unstated"
    licence = metadata.licence.lower() if is_stated else "other"
    results = [
        EvalResult(
            task_type="image-to-image",
            task_name="Super-resolution",
            dataset_type="custom",
            dataset_name=score.data,
            metric_type=kind,
            metric_name=f"{kind.upper()}, protocol {score.protocol}",
            metric_value=round(value, 4),
        )
        for score in metadata.scores
        for kind, value in (("psnr", score.psnr_db), ("ssim", score.ssim))
    ]
    return ModelCardData(
        license=licence,
        license_name=None if is_stated else metadata.licence,
        library_name="d2csr",
        pipeline_tag="image-to-image",
        tags=list(_TAGS),
        model_name=metadata.name,
        eval_results=results or None,
    )
