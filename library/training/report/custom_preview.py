"""--debug_dataset for a custom dataset class: the batches of the first epoch as a page, in training order."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from library.caption_rewriting import RewriteCaption, keep_caption
from library.console import log, progress
from library.errors import UserError, coded
from library.files import NOT_UNICODE, atomic_write
from library.options.groups.scripts import TrainingScript
from library.training.planning.custom_dataset import CustomDataset
from library.training.planning.inputs import Inputs, data_lines

if TYPE_CHECKING:
    import numpy as np

    from library.data.loading.batch import Batch
    from library.model.text.tokenizer import ClipTokenizer

PAGE = "dataset.html"
MOST_PICTURES = 300
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}h2{font-size:1rem;margin:1.5rem 0 .5rem}"
    "div{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;width:200px}img{max-width:200px;max-height:200px}figcaption{font-size:13px}"
)


def preview_custom(options: TrainingScript, inputs: Inputs, custom: CustomDataset, rewrite: RewriteCaption | None = None) -> None:
    """Write the page into --output_dir: images, the texts that they are trained with, weights. Raises UserError for an invalid batch."""
    lines = inputs.plan_lines(options.training.max_train_epochs)
    facts = "".join(f"<li>{escape(line.strip())}</li>" for line in (*data_lines(inputs), *lines))
    body = f"<ul>{facts}</ul>\n{''.join(_batches(options, inputs, custom, rewrite))}"
    page = options.saving.folder / PAGE
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(page) as temporary:
            head = (
                f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>What would be trained</title><style>{_STYLE}</style>'
            )
            temporary.write_text(f"{head}</head>\n<body>\n{body}</body></html>\n", encoding="utf-8", errors=NOT_UNICODE, newline="\n")
    except OSError as fault:
        raise UserError(coded("DISK-004", f"--output_dir {page}: cannot be written ({fault.strerror}); choose another place")) from None
    log.info(f"--debug_dataset: nothing is trained; see {page}")


def _batches(options: TrainingScript, inputs: Inputs, custom: CustomDataset, rewrite: RewriteCaption | None) -> Iterator[str]:
    """Yield a section per batch, until MOST_PICTURES images are shown. Without --seed, the run's own seed is random and these batches use
    seed 0."""
    from library.model.family import family_of_flag
    from library.model.text.tokenizer import ClipTokenizer

    model, seed = options.model, options.training.seed or 0
    tokenizer = ClipTokenizer(family_of_flag(model.v2), model.max_token_length, options.data.weighted_captions)
    dataset = custom.dataset(seed, tokenizer, 1.0, rewrite or keep_caption, inputs.plan)
    sampler, shown = inputs.sampler(seed), 0
    shares = [sampler.share(batch, process) for batch in sampler.epoch(0) for process in range(min(inputs.processes, len(batch)))]
    for share in progress(shares, label="reading batches", unit="batch"):
        batch = dataset[share]
        figures = "".join(_figure(batch, row, tokenizer) for row in range(len(batch)))
        yield f"<section><h2>{escape(custom.source.place(share[0].record))}</h2><div>{figures}</div></section>\n"
        shown += len(batch)
        if shown >= MOST_PICTURES:
            yield f"<p>… {MOST_PICTURES} images are shown; the other batches were not requested.</p>\n"
            return


def _figure(batch: Batch, row: int, tokenizer: ClipTokenizer) -> str:
    from library.data.inspection.draw_preview import as_jpeg

    words = [tokenizer.tokenizer.decode(window.tolist(), skip_special_tokens=True) for window in batch.input_ids[row]]
    text = batch.captions[row] or " ".join(words).strip() or "(no text)"
    weight = f", loss × {float(batch.loss_weights[row]):g}" if float(batch.loss_weights[row]) != 1 else ""
    masked = "" if batch.masks is None else f", mask: {float(batch.masks[row].mean()):.0%} trained"
    kind = "" if batch.latents is None else " (latents in false colours)"
    source = base64.b64encode(as_jpeg(_pixels(batch, row))).decode("ascii")
    name = escape(batch.paths[row])
    about = f"{name}{weight}{masked}{kind}"
    return f'<figure><img alt="{name}" src="data:image/jpeg;base64,{source}"><figcaption>{escape(text)}<br>{about}</figcaption></figure>'


def _pixels(batch: Batch, row: int) -> np.ndarray:
    """Return uint8 [H,W,3]; of latents, the first three channels, from −2 to 2."""
    if batch.images is not None:
        picture = batch.images[row]
    else:
        assert batch.latents is not None, "a batch has one of the two"
        picture = batch.latents[row, :3].repeat_interleave(8, 1).repeat_interleave(8, 2) / 2
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
