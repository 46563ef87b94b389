"""Options on the command line and in the settings file."""

from __future__ import annotations

from library.refusals.refusal import Area, Refusal

# A code is never given to another kind and never taken away from one: new kinds go to the end.
AREA = Area(
    "OPT",
    "options on the command line and in the settings file",
    (
        Refusal(
            "OPT-001",
            "An option of this name does not exist here.",
            "Take the name that the line proposes; `--help` lists all. An option of another script is left out.",
            "options.md",
        ),
        Refusal("OPT-002", "A shortened option fits several options.", "Write it in full.", "options.md"),
        Refusal(
            "OPT-003",
            "A word stands on the command line that belongs to no option.",
            "Put values with spaces in quotation marks; look for a missing `--`.",
            "troubleshooting.md#it-does-not-start",
        ),
        Refusal("OPT-004", "A value is missing after an option, or empty.", "Write the value, or remove the option.", "options.md"),
        Refusal(
            "OPT-005",
            "An option got several values and takes one, or got a value and is a switch.",
            "Put a value with spaces in quotation marks; write a switch alone.",
            "options.md",
        ),
        Refusal(
            "OPT-006",
            "A value is not of the kind, the range or the choices that the option takes.",
            "Write what the line says is expected.",
            "options.md",
        ),
        Refusal("OPT-007", "An option that is always needed is missing.", "Add it.", "options.md"),
        Refusal(
            "OPT-008",
            "Two options contradict one another, or one makes the other impossible.",
            "Leave out one of those that the line names.",
            "options.md",
        ),
        Refusal("OPT-009", "An option needs another one that is not given.", "Add the other one, or leave this out.", "options.md"),
        Refusal(
            "OPT-010",
            "An entry of an option that takes `key=value` has another form, or a key stands twice.",
            "Write `key=value` without spaces around the equals sign, each key once.",
            "optimizers.md#settings---optimizer_args",
        ),
        Refusal(
            "OPT-011",
            "An argument is unknown to the class that gets it, is set by the suite, is missing, or was refused by the class.",
            "Take the arguments that the line lists; those of the suite have options of their own.",
            "optimizers.md#settings---optimizer_args",
        ),
        Refusal(
            "OPT-012",
            "With these learning rates or switches nothing would be trained.",
            "Raise a learning rate, or take out the switch that turns the rest off.",
            "train_network.md#settings-that-matter",
        ),
        Refusal(
            "OPT-013",
            "The name of an optimizer is unknown, or the class is none.",
            "Take a name from the table, or module.Class of an installed package.",
            "optimizers.md",
        ),
        Refusal(
            "OPT-014",
            "The name of a schedule is unknown, or the class is none.",
            "Take a name from the page, or module.Class of an installed package.",
            "schedules.md",
        ),
        Refusal(
            "OPT-015",
            "A schedule does not fit the run: its length, its rates or the optimizer.",
            "Change its arguments, the warm-up or the rates as the line says.",
            "schedules.md",
        ),
        Refusal(
            "OPT-016",
            "An optimizer does not fit these learning rates or this precision.",
            "Make the rates equal, leave --full_fp16 and --full_bf16 out, or take another optimizer.",
            "optimizers.md",
        ),
        Refusal(
            "OPT-017",
            "The resolution, or the sides of buckets, cannot be used.",
            "Use multiples of 8 pixels, the smallest side not over the largest.",
            "dataset_config.md#keys-of-a-dataset",
        ),
        Refusal(
            "OPT-018",
            "The device or the precision cannot be used on this machine.",
            "Take the precision or the device that the line names.",
            "memory.md#the-flags",
        ),
        Refusal(
            "OPT-019",
            "accelerate is set up for an engine that is not supported: FSDP, DeepSpeed, Megatron-LM, XLA and their like.",
            "Start with `accelerate launch --multi_gpu`; where accelerate's config file asks for the engine, run `accelerate config` anew.",
            "multi_gpu.md#what-is-refused",
        ),
    ),
)
