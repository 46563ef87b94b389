"""Words of a command line and values of TOML that are wrong for most options, whatever these are; a few happen to be right."""

from __future__ import annotations

from library.options.declare import Option

LONG = "x" * 70_000
WORDS = (
    "", " ", "\t", "nan", "inf", "-inf", "1e400", "-1e400", "-1", "0", "1", "0.5", "-0.0", "1e-320", "9999999999999999999",
    "-9999999999999999999", "9" * 400, "9" * 5_000, "-" + "9" * 5_000, "0." + "0" * 4_000 + "1", "1" + "0" * 18, "4294967296",
    "2147483648", "0x10", "0b1", "1_0", "1,0", "1.0.0", "½", "²", "٣", "−1", "1%", "true", "True", "None", "null", "[]", "{}", "[1,2]",
    "(1,)", "[" * 5_000 + "]" * 5_000, "{" * 3_000, "key=value", "=", "=1", "a=", "a=b=c", "a=nan", "betas=1", "lr=1e400",
    "weight_decay=" + "9" * 400, "conv_dim=9999999999999999999", "conv_dim=-1", "eps=[[[[[]]]]]",
    "init=pissa", "init=x", "rs_lora=2", "network_reg_dims=attn2.*=2", "network_reg_dims=(a{99999999999}=2", "wd_on_output=False",
    "é", "日本語", "🐾", "\u202eabc", "\ufeffx",
    "a\u0000b", "\x1b[31mred\x1b[0m", "\x07", "\x08\x08", "\x9b31m", "a\nb", "a\r\nb", "a\rb", "\udcff\udc80", "a\udce9", LONG, "é" * 300,
    "n" * 256, "../../x", "..", ".", "/", "//", "/x", "~", "~nobody/x", "~/x", "C:\\x", "\\\\server\\x", "con", "NUL.txt", "a/b/c",
    "a\\b", "%s%s%n", "{0}", "{x!r}", "$(touch x)", "`x`", "; rm x", "--", "-", "-x", "*", "?", "a b", "'", '"',
    "data:image/png;base64,AAAA", "data:,x", "http://127.0.0.1:9/x", "https://huggingface.co/x/y", "owner/model", "a/b/c/d",
    "module.Class", "os.system", "os", ".x", "x.", "torch.nn.Linear", "builtins.int", "torch.optim.Optimizer", "networks.merge_lora",
    "library", "__main__.x", "cuda", "cuda:99", "cpu:-1", "meta", "512,512,512", "512x512", "-512", "0,0", "32769", "1000000000", "65536",
    "1000000", "32768", "7", "16,16",
)  # fmt: skip
TOML_VALUES = (
    '""', '" "', '"x"', '"nan"', "true", "false", '"true"', "-1", "0", "1", "2", "1.5", "-0.0", "nan", "inf", "-inf", "1e400",
    "9999999999999999999", "-9999999999999999999", "9" * 400, "9" * 5_000, "0xff", "0x" + "f" * 4_000, "1_000", "[]", "[[]]", "[1, 2]",
    "[1.5, 2.5]", '["a", "b"]', '[""]', "[true]", "[[1], [2]]", "[nan]", "[9999999999999999999]", "{}", "{a = 1}", "[{a = 1}]",
    "{a = {a = {a = 1}}}", "1979-05-27T07:32:00Z", "1979-05-27", "07:32:00", "[" * 2_000 + "]" * 2_000, "{a=" * 500 + "1" + "}" * 500,
    '"\\u0000"', '"\\u001b[31m"', '"\\ud800"', '"\\n"', '"a\\tb"', "'''\na\nb'''", '"' + LONG + '"', "'x", "x", "= 1", "yes", "None",
    "1 2", "“x”", "'C:\\x'", '"C:\\x"', "'../../x'", "'/'", "'.'", "'é🐾'", "[,]", "[1", "1]", "", "#", "'512,512'", "[512, -1]",
    "[512, 9999999999999999999]", "[64, 64]", "64", "'on'", "'off'", "'1e400'", "'9999999999999999999'", "[[[]]]", "{a = []}",
    "'" + "n" * 256 + "'", "'~nobody/x'", "'http://127.0.0.1:9/x'",
)  # fmt: skip


def sound_words(option: Option) -> tuple[str, ...]:
    """Words that the option may well take, to be combined with wrong ones."""
    if option.choices:
        return tuple(map(str, option.choices))
    if option.type in (int, float):
        return (str(option.at_least), str(option.at_most))
    return ("x",)
