"""Images, captions, masks and what is computed from them."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "DATA",
    "images, captions, masks and what is made from them",
    (
        Refusal(
            "DATA-001",
            "An image cannot be read.",
            "Remove or replace it, or skip such images with --skip_bad_images.",
            "caches.md#images-that-cannot-be-read",
        ),
        Refusal(
            "DATA-002",
            "An image has changed since the start of the run.",
            "Start again, and do not change images while training.",
            "caches.md#images-that-cannot-be-read",
        ),
        Refusal(
            "DATA-003",
            "A folder has no images, or no folders of images.",
            "Name the folder with the images; --train_data_dir is the parent of folders such as `10_shs dog`.",
            "dataset_config.md#without-a-config-file",
        ),
        Refusal(
            "DATA-004",
            "A caption file, or another text file, cannot be read as text.",
            "Save it again with the encoding UTF-8, or remove it.",
            "windows.md#text-files",
        ),
        Refusal(
            "DATA-005",
            "Images have neither a caption nor class words.",
            "Write captions, or set class_tokens.",
            "dataset_config.md#captions-three-ways",
        ),
        Refusal(
            "DATA-006",
            "A metadata file has no entries, or no image matches any of them.",
            "Name the folder that its keys are relative to, or create the file again.",
            "captions_and_tags.md",
        ),
        Refusal(
            "DATA-007",
            "An entry of a metadata file has an unexpected form.",
            "Write it as the line shows.",
            "fine_tune.md#the-metadata-file",
        ),
        Refusal(
            "DATA-008",
            "A metadata file cannot be used by this script, or is needed and missing.",
            "Use the script or the option that the line names.",
            "fine_tune.md#the-metadata-file",
        ),
        Refusal(
            "DATA-009", "An image has no mask.", "Add it (all white trains the whole image), or remove the image.", "objectives.md#masks"
        ),
        Refusal("DATA-010", "A mask cannot be read, or has another shape than its image.", "Replace it.", "objectives.md#masks"),
        Refusal(
            "DATA-011",
            "The masks leave nothing to train in any image.",
            "White is trained, black is not: invert them.",
            "objectives.md#masks",
        ),
        Refusal(
            "DATA-012",
            "Nothing is left to train: all images are skipped, unreadable, too small or for regularization only.",
            "Add images, or change the setting that the line names.",
            "dataset_config.md#where-it-usually-goes-wrong",
        ),
        Refusal(
            "DATA-013",
            "An epoch would be far too long.",
            "Lower num_repeats and raise --max_train_epochs instead.",
            "dataset_config.md#keys-of-a-subset",
        ),
        Refusal(
            "DATA-014",
            "The validation has no images, or takes all of them.",
            "Set another share with --validation_split.",
            "validation.md#how-many-images",
        ),
        Refusal(
            "DATA-015",
            "Latents on disk cannot be read, or have changed.",
            "Delete the file; the next start encodes it again.",
            "caches.md#latents",
        ),
        Refusal(
            "DATA-016",
            "Latents belong to images that are missing, and do not match.",
            "Restore the images, or prepare the latents again.",
            "caches.md#prepared-latents",
        ),
        Refusal(
            "DATA-017",
            "Latents were made for other sizes than this run trains.",
            "Prepare them again, or train at their sizes.",
            "caches.md#prepared-latents",
        ),
        Refusal(
            "DATA-018",
            "An option that changes the images cannot be combined with cached latents.",
            "Remove the cache, or the option that changes the images.",
            "caches.md#latents",
        ),
        Refusal(
            "DATA-019",
            "The VAE produces numbers that are not finite for an image.",
            "Use --mixed_precision bf16 or no, or another --vae.",
            "troubleshooting.md#the-loss-is-nan-or-images-are-black",
        ),
        Refusal(
            "DATA-020",
            "A dataset class cannot be found, imported or created.",
            "Correct the name or the class as the line says.",
            "dataset_class.md#what-the-class-has-to-be",
        ),
        Refusal(
            "DATA-021",
            "A dataset class raised an error.",
            "Correct the class; the message names the line in its file.",
            "dataset_class.md#what-the-class-has-to-be",
        ),
        Refusal(
            "DATA-022",
            "A batch of a dataset class lacks something, or has an unexpected form.",
            "Return what the line says is expected.",
            "dataset_class.md#what-a-batch-has",
        ),
        Refusal(
            "DATA-023",
            "A dataset class cannot be sent to loader workers, or differs between processes.",
            "Open files in __getitem__, or set --max_data_loader_n_workers 0.",
            "dataset_class.md#what-the-run-does-with-it",
        ),
        Refusal(
            "DATA-024",
            "A loader worker has died; usually the system killed it because memory ran out.",
            "Lower --max_data_loader_n_workers.",
            "memory.md#the-flags",
        ),
        Refusal(
            "DATA-025",
            "Folder names do not give repeats and words.",
            "Name them such as `10_shs dog`, or use a dataset config.",
            "dataset_config.md#without-a-config-file",
        ),
        Refusal(
            "DATA-026",
            "A table of tags, or of tags to replace, has an unexpected form.",
            "Write it as the line shows.",
            "captions_and_tags.md",
        ),
        Refusal(
            "DATA-027",
            "A smaller copy of an image cannot be made as asked.",
            "Lower --divisible_by, or use larger sizes.",
            "captions_and_tags.md#smaller-copies",
        ),
        Refusal(
            "DATA-028",
            "A caption is much longer than a text encoder reads.",
            "Check that the file is a caption, and shorten or remove it.",
            "dataset_config.md#captions-three-ways",
        ),
        Refusal(
            "DATA-029",
            "Shared memory, through which loader workers send their batches, has no space for them.",
            "Enlarge it (in Docker: --shm-size 8g), or lower --max_data_loader_n_workers.",
            "memory.md#the-flags",
        ),
    ),
)
