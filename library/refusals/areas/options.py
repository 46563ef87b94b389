"""Options on the command line and in the settings file."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never reused for another kind and never removed: add new kinds at the end.
AREA = Area(
    "OPT",
    "options on the command line and in the settings file",
    (
        Refusal(
            "OPT-001",
            "An option with this name does not exist here.",
            "Use the name that the line suggests; `--help` lists all. Remove an option of another script.",
            "options.md",
        ),
        Refusal("OPT-002", "A shortened option matches several options.", "Write it in full.", "options.md"),
        Refusal(
            "OPT-003",
            "The command line has a word that belongs to no option.",
            "Put values with spaces in quotation marks; look for a missing `--`.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("OPT-004", "A value is missing after an option, or empty.", "Write the value, or remove the option.", "options.md"),
        Refusal(
            "OPT-005",
            "An option that takes one value got several, or a switch got a value.",
            "Put a value with spaces in quotation marks; write a switch without a value.",
            "options.md",
        ),
        Refusal(
            "OPT-006",
            "A value does not have the type, range or choices that the option accepts.",
            "Write what the line says is expected.",
            "options.md",
        ),
        Refusal("OPT-007", "A required option is missing.", "Add it.", "options.md"),
        Refusal(
            "OPT-008",
            "Two options contradict each other, or one makes the other impossible.",
            "Remove one of those that the line names.",
            "options.md",
        ),
        Refusal("OPT-009", "An option needs another one that is not set.", "Add the other option, or remove this one.", "options.md"),
        Refusal(
            "OPT-010",
            "An entry of an option that takes `key=value` has another form, or a key appears twice.",
            "Write `key=value` without spaces around the equals sign, each key once.",
            "optimizers.md#settings---optimizer_args",
        ),
        Refusal(
            "OPT-011",
            "An argument is unknown to its class, is set by the suite, is missing, or was refused by the class.",
            "Use the arguments that the line lists; those of the suite have separate options.",
            "optimizers.md#settings---optimizer_args",
        ),
        Refusal(
            "OPT-012",
            "With these learning rates or switches nothing would be trained.",
            "Raise a learning rate, or remove the switch that turns the rest off.",
            "train_network.md#settings-that-matter",
        ),
        Refusal(
            "OPT-013",
            "The name of an optimizer is unknown, or the class is not an optimizer.",
            "Use a name from the table, or module.Class of an installed package.",
            "optimizers.md",
        ),
        Refusal(
            "OPT-014",
            "The name of a schedule is unknown, or the class is not a schedule.",
            "Use a name from the page, or module.Class of an installed package.",
            "schedules.md",
        ),
        Refusal(
            "OPT-015",
            "A schedule does not suit the run: its length, its rates or the optimizer.",
            "Change its arguments, the warm-up or the rates as the line says.",
            "schedules.md",
        ),
        Refusal(
            "OPT-016",
            "An optimizer does not support these learning rates or this precision.",
            "Make the rates equal, remove --full_fp16 and --full_bf16, or use another optimizer.",
            "optimizers.md",
        ),
        Refusal(
            "OPT-017",
            "The resolution, or the sides of buckets, cannot be used.",
            "Use multiples of 8 pixels, with the smallest side not over the largest.",
            "dataset_config.md#keys-of-a-dataset",
        ),
        Refusal(
            "OPT-018",
            "The device or the precision cannot be used on this machine.",
            "Use the precision or the device that the line names.",
            "memory.md#the-flags",
        ),
        Refusal(
            "OPT-019",
            "accelerate is set up for an engine that is not supported, such as FSDP, DeepSpeed, Megatron-LM or XLA.",
            "Start with `accelerate launch --multi_gpu`; if accelerate's config file selects the engine, run `accelerate config` again.",
            "multi_gpu.md#what-is-refused",
        ),
    ),
)
