"""The machine model: what the presets say, what a machine file may say, and what is refused."""

import dataclasses
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlutriton import dtypes
from mlutriton.diagnostics import ArgumentError
from mlutriton.isa import machine_reference
from mlutriton.isa.machine import DEFAULT_MACHINE_NAME, PARAMETERS, Machine, machine, machine_names
from mlutriton.isa.machine_file import PRESET_DIRECTORY, Parameter, Provenance

KB, MB, GB = 2**10, 2**20, 2**30
PRESETS = machine_names()
USER_CLUSTERS = 'clusters = { value = 10, confidence = "sourced", source = "the board" }\n'


def write(directory: Path, text: str, name: str = "mine.toml") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | str) -> ArgumentError:
    with pytest.raises(ArgumentError) as caught:
        Machine.load(path)
    return caught.value


# --- presets ---------------------------------------------------------------------------------------------------------


def test_the_presets():
    assert set(PRESETS) == {
        "mlu-tiny", "mlu220", "mlu270", "mlu290", "mlu370-x4", "mlu370-m8", "mlu580", "mlu590-h8", "mlu590-m9",
    }  # fmt: skip
    assert DEFAULT_MACHINE_NAME in PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_has_a_type_and_a_provenance(name: str):
    preset = machine(name)
    assert preset.name == name
    assert list(preset.values) == list(preset.values | dict(preset.provenances)) == list(PARAMETERS)
    keys = machine_reference.source_keys()
    for parameter in PARAMETERS.values():
        assert type(preset.values[parameter.name]) is parameter.kind, parameter.name
        origin = preset.provenance(parameter.name)
        if origin.confidence != "assumed":
            assert origin.source.replace(":", " ").split()[0] in keys, (parameter.name, origin)


def test_every_source_key_is_used():
    used = {origin.source for name in PRESETS for origin in machine(name).provenances.values()}
    for key in machine_reference.source_keys():
        assert any(key in source.replace(":", " ").replace(",", " ").split() for source in used), key


# The board tables: clusters, most clusters of a task, clock, NRAM, WRAM, SRAM, L1, L2, DRAM.
BOARDS = {
    "mlu220": (220, 1, 1, 800, 512, 512, 2048, 0, 0.25, 29.86, 4),
    "mlu270": (270, 4, 4, 1000, 512, 1024, 2048, 0, 1, 102.4, 16),
    "mlu290": (290, 16, 16, 1000, 512, 512, 2048, 0, 2, 1228.8, 32),
    "mlu370-x4": (372, 8, 8, 1000, 768, 1024, 4096, 0, 2, 307.2, 24),
    "mlu370-m8": (372, 8, 8, 1300, 768, 1024, 4096, 0, 2, 307.2, 24),
    "mlu590-h8": (592, 12, 8, 1500, 512, 512, 2048, 256, 40, 2048, 80),
    "mlu590-m9": (592, 12, 8, 1600, 512, 512, 2048, 256, 48, 2764.8, 96),
    "mlu580": (592, 12, 8, 1500, 512, 512, 2048, 256, 96, 768, 48),
}


@pytest.mark.parametrize("name", BOARDS)
def test_board_tables(name: str):
    m = machine(name)
    assert (
        m.isa, m.clusters, m.max_union_clusters, m.clock_mhz, m.nram_bytes / KB, m.wram_bytes / KB, m.sram_bytes / KB,
        m.l1_bytes / KB, m.l2_bytes / MB, m.dram_gb_per_s, m.dram_bytes / GB,
    ) == BOARDS[name]  # fmt: skip
    assert m.cores == 4 * m.clusters


# Published or computed chip peaks: int8 TOPS, int16 TOPS, fp16 and fp32 TFLOPS, fp32 vector T operations/s.
PEAKS = {
    "mlu220": (13.1, 6.55, 0, 0, 0.102),
    "mlu270": (131, 65.5, 0, 0, 0.512),
    "mlu290": (524, 262, 0, 0, 2.05),
    "mlu370-x4": (262, 131, 98.3, 24.6, 1.02),
    "mlu370-m8": (341, 170, 127.8, 31.9, 1.33),
    "mlu590-h8": (590, 147, 294.9, 73.7, 2.30),
    "mlu590-m9": (629, 157, 314.6, 78.6, 2.46),
}


@pytest.mark.parametrize("name", PEAKS)
def test_chip_peaks(name: str):
    m = machine(name)
    for dtype, peak in zip((dtypes.I8, dtypes.I16, dtypes.F16, dtypes.F32), PEAKS[name], strict=False):
        assert m.peak_mac_per_cycle(dtype) * 2 * m.clock_mhz / 1e6 == pytest.approx(peak, rel=0.01)
    assert m.peak_mac_per_cycle(dtypes.BF16) == m.peak_mac_per_cycle(dtypes.F16)
    assert m.cores * m.vector_bytes_per_cycle / 4 * m.clock_mhz / 1e6 == pytest.approx(PEAKS[name][-1], rel=0.01)


@pytest.mark.parametrize("name", PRESETS)
def test_rates_agree_with_each_other(name: str):
    m = machine(name)
    assert 1.5 <= m.l2_bytes_per_cycle / (m.dram_gb_per_s * 1000 / m.clock_mhz) <= 2
    assert m.core_dma_total_bytes_per_cycle <= m.cluster_dma_bytes_per_cycle
    assert m.vector_fma_passes == (1 if m.isa >= 322 else 2)


def test_what_nobody_has_published_is_marked_as_assumed():
    for name in ("mlu580", "mlu590-h8", "mlu590-m9"):
        for parameter in ("wram_bytes", "mac_per_cycle_tf32", "vector_latency_cycles", "l2_latency_ns"):
            assert machine(name).provenance(parameter).confidence == "assumed"
    for name in ("mlu220", "mlu270", "mlu580"):
        assert machine(name).provenance("dram_bytes").confidence == "assumed"
    for name in PRESETS:
        for parameter in ("core_dma_bytes_per_cycle", "dram_scalar_latency_ns", "launch_device_ns", "launch_host_ns"):
            assert machine(name).provenance(parameter).confidence != "sourced"


# --- derived properties ----------------------------------------------------------------------------------------------


def test_derived_properties():
    m = machine("mlu590-m9")
    assert (m.usable_nram_bytes, m.usable_wram_bytes, m.usable_sram_bytes) == (384 * KB, 512 * KB, 1920 * KB)
    assert machine("mlu370-x4").usable_nram_bytes == 640 * KB
    assert machine("mlu290").usable_wram_bytes == 504 * KB
    assert machine("mlu-tiny").usable_nram_bytes == 64 * KB
    assert m.dram_bytes_per_cycle == pytest.approx(2764.8e9 * m.dram_efficiency / 1.6e9)
    assert m.time_us(1600) == 1
    assert m.mac_per_cycle("i4") == 8192
    assert m.peak_mac_per_cycle("tf32") == 48 * 1024
    assert m.mac_per_cycle(dtypes.F64) == m.mac_per_cycle(dtypes.I32) == 0
    assert machine("mlu290").mac_per_cycle(dtypes.F16) == 0


@given(st.integers(0, 10**15), st.integers(1, 5000))
def test_cycles_from_ns_is_the_least_number_of_cycles_that_lasts_as_long(ns: int, clock_mhz: int):
    m = machine("mlu-tiny").replace(clock_mhz=clock_mhz)
    cycles = m.cycles_from_ns(ns)
    assert cycles * 1000 >= ns * clock_mhz > (cycles - 1) * 1000
    assert m.cycles_from_ns(0.5) == math.ceil(clock_mhz / 2000)


def test_a_machine_is_a_value():
    m = machine("mlu370-x4")
    again = Machine.load("mlu370-x4")
    assert m is machine("mlu370-x4")
    assert again is not m
    assert again == m == pickle.loads(pickle.dumps(m))
    assert len({m, again, machine("mlu370-m8")}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        m.clusters = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_the_content_hash_sees_every_value_and_nothing_else():
    m = machine("mlu-tiny")
    for key, value in m.values.items():
        # Straight through the constructor: no value must be legal here, only different.
        other = dataclasses.replace(m, **{key: not value if isinstance(value, bool) else value + 1})
        assert other.content_hash != m.content_hash, key
    renamed = m.replace(name="other", clusters=m.clusters)
    assert renamed.content_hash == m.content_hash
    assert hash(renamed) == hash(m)
    assert renamed != m


# --- replace ---------------------------------------------------------------------------------------------------------


def test_replace_marks_what_it_changed():
    m = machine("mlu590-m9")
    faster = m.replace(dram_gb_per_s=4000, has_gather=False, name="faster")
    assert (faster.name, faster.dram_gb_per_s, faster.has_gather) == ("faster", 4000.0, False)
    assert isinstance(faster.dram_gb_per_s, float)
    assert faster.provenance("dram_gb_per_s") == Provenance("assumed", "user override")
    assert faster.provenance("clusters") == m.provenance("clusters")
    assert m.dram_gb_per_s == 2764.8
    assert m.provenance("dram_gb_per_s").confidence == "sourced"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cluster": 4}, ("'cluster'", "did you mean clusters")),
        ({"nram": 4}, ("'nram'", "did you mean nram_bytes or nram_reserve_bytes?")),
        ({"nram_bytes": 1 << 40}, ("expected a positive integer of at most 1,073,741,824 (bytes)",)),
        ({"clusters": 0}, ("clusters is 0", "positive integer")),
        ({"clusters": 1.5}, ("clusters is 1.5", "positive integer")),
        ({"clusters": True}, ("clusters is true", "positive integer")),
        ({"clusters": "4"}, ("clusters is '4'", "positive integer")),
        ({"dram_gb_per_s": 0}, ("dram_gb_per_s is 0", "positive number (GB/s)")),
        ({"dram_gb_per_s": math.nan}, ("dram_gb_per_s is nan",)),
        ({"dram_gb_per_s": math.inf}, ("dram_gb_per_s is inf",)),
        ({"dram_efficiency": 1.01}, ("dram_efficiency is 1.01", "positive number of at most 1")),
        ({"sync_cycles": -1}, ("sync_cycles is -1", "non-negative integer (cycles)")),
        ({"has_gather": 1}, ("has_gather is 1", "true or false")),
        ({"name": ""}, ("name is ''",)),
        ({"clusters": 4}, ("max_union_clusters is 8 but clusters is 4",)),
        ({"nram_bytes": 64 * KB}, ("nram_reserve_bytes is 131072 but nram_bytes is 65536",)),
        ({"l2_bytes": 1_000_001}, ("l2_bytes is 1000001", "lines of 128")),
        ({"dram_granule_bytes": 48}, ("dram_granule_bytes is 48", "no power of two")),
        ({"l2_line_bytes": 192}, ("l2_line_bytes is 192", "no power of two")),
        ({"l2_line_bytes": 32}, ("l2_line_bytes is 32", "1 to 8 times dram_granule_bytes, 64")),
        ({"l2_line_bytes": 1024}, ("l2_line_bytes is 1024", "1 to 8 times dram_granule_bytes, 64")),
        ({"core_dma_bytes_per_cycle": 33}, ("core_dma_bytes_per_cycle is 33",)),
        ({"has_bf16": False}, ("mac_per_cycle_bf16 is 2048 but has_bf16 is false",)),
    ],
)
def test_replace_refuses(values: dict[str, float | str], words: tuple[str, ...]):
    with pytest.raises(ArgumentError) as caught:
        machine("mlu590-m9").replace(**values)
    assert caught.value.code == "E0106"
    for word in words:
        assert word in str(caught.value)


def test_provenance_of_an_unknown_parameter():
    with pytest.raises(ArgumentError, match=r"E0106.*\n.*did you mean clusters"):
        machine("mlu590-m9").provenance("clutsers")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_to_toml_reads_back_as_the_same_machine(name: str, tmp_path: Path):
    assert Machine.load(write(tmp_path, machine(name).to_toml())) == machine(name)


@given(st.floats(1e-300, 1e300), st.text(st.characters(codec="utf-8"), min_size=1))
def test_to_toml_keeps_any_number_and_any_text(tmp_path_factory: pytest.TempPathFactory, rate: float, name: str):
    mine = machine("mlu-tiny").replace(dram_gb_per_s=rate, name=name)
    assert Machine.load(write(tmp_path_factory.mktemp("machine"), mine.to_toml())) == mine


def test_a_file_extends_a_preset_and_another_file(tmp_path: Path):
    write(tmp_path, f'name = "base"\nextends = "mlu590-h8"\n{USER_CLUSTERS}', "base.toml")
    path = write(
        tmp_path,
        'name = "mine"\nextends = "base.toml"\nclock_mhz = { value = 900, confidence = "derived", source = "s" }\n',
    )
    mine = Machine.load(str(path))
    assert (mine.name, mine.clusters, mine.clock_mhz, mine.l2_bytes) == ("mine", 10, 900, 40 * MB)
    assert mine.provenance("clusters") == Provenance("sourced", "the board")
    assert mine.provenance("clock_mhz") == Provenance("derived", "s")
    assert mine.provenance("l2_bytes") == machine("mlu590-h8").provenance("l2_bytes")


@pytest.mark.parametrize("name", ["mlu590m9", "MLU590_M9", "mlu590", "", "h100"])
def test_an_unknown_name(name: str):
    with pytest.raises(ArgumentError) as caught:
        machine(name)
    assert caught.value.code == refusal(name).code == "E0105"
    assert all(preset in str(caught.value) for preset in PRESETS)
    assert ("did you mean" in caught.value.help) == ("mlu590-m9" in caught.value.help) == (name not in ("", "h100"))
    if name == "mlu590":
        assert "did you mean mlu590-h8 or mlu590-m9?" in caught.value.help


def test_a_file_that_cannot_be_read(tmp_path: Path):
    for path in (tmp_path / "none.toml", tmp_path):
        error = refusal(path)
        assert error.code == "E0105"
        assert str(path) in str(error)


def test_every_missing_parameter_is_named(tmp_path: Path):
    text = machine("mlu-tiny").to_toml().splitlines()
    for key, parameter in PARAMETERS.items():
        error = refusal(write(tmp_path, "\n".join(line for line in text if not line.startswith(f"{key} ="))))
        assert error.code == "E0106"
        assert f"lacks 1 of {len(PARAMETERS)} parameters: {key}\n" in str(error)
        assert parameter.expected in str(error)
        assert "mine.toml" in str(error)
    error = refusal(write(tmp_path, f'name = "mine"\n{USER_CLUSTERS}'))
    assert f"lacks {len(PARAMETERS) - 1} of" in error.summary
    assert 'extends = "mlu590-m9"' in error.help


@pytest.mark.parametrize("key", PARAMETERS)
def test_a_file_with_an_illegal_value_is_refused_on_its_line(key: str, tmp_path: Path):
    wrong: dict[type, tuple[str, ...]] = {
        int: ("-1", "1.5", "true", '"x"', "[]"),
        float: ("-0.5", "nan", "inf", "true", '"x"'),
        bool: ("1", '"yes"'),
    }
    parameter = PARAMETERS[key]
    below = () if parameter.zero_allowed or parameter.kind is bool else ("0",)
    above = () if parameter.at_most == math.inf else (str(parameter.at_most + 1),)
    for value in wrong[parameter.kind] + below + above:
        text = f'{key} = {{ value = {value}, confidence = "assumed", source = "s" }}'
        error = refusal(write(tmp_path, f'name = "mine"\nextends = "mlu-tiny"\n\n{text}\n'))
        assert error.code == "E0106"
        assert error.location is not None
        assert error.location.line == 4
        assert key in error.summary
        assert parameter.expected in error.summary


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('extends = "mlu-tiny"', 0, ("name is missing",)),
        ('name = 3\nextends = "mlu-tiny"', 1, ("name is missing",)),
        ('name = "mine"\nextends = "mlu-tiny"\nclutsers = 3', 3, ("'clutsers'", "did you mean clusters")),
        ('name = "mine"\nextends = "mlu-tiny"\n[chip]\nclusters = 3', 3, ("'chip'",)),
        ('name = "mine"\nextends = "mlu-tiny"\nclusters = 3', 3, ("bare value", "write clusters = { value = 3,")),
        ('name = "mine"\nextends = "mlu-tiny"\nclusters = { value = 3 }', 3, ("value, confidence, source",)),
        ('name = "mine"\nextends = "mlu-tiny"\nclusters.value = 3', 3, ("value, confidence, source",)),
        (
            'name = "mine"\nextends = "mlu-tiny"\nclusters = { value = 3, confidence = "sure", source = "s" }',
            3,
            ("'sure'", "sourced, derived, assumed"),
        ),
        (
            'name = "mine"\nextends = "mlu-tiny"\nclusters = { value = 3, confidence = ["x"], source = "s" }',
            3,
            ("sourced, derived, assumed",),
        ),
        (
            'name = "mine"\nextends = "mlu-tiny"\nclusters = { value = 3, confidence = "assumed", source = "" }',
            3,
            ("source ''",),
        ),
        ('name = "mine"\nextends = 3', 2, ("extends is 3",)),
        ('name = "mine"\nextends = "mine.toml"', 2, ("circle",)),
        ('name = "mine"\nclusters = = 3', 2, ("not a TOML file",)),
        (
            'name = "mine"\nextends = "mlu-tiny"\nl2_bytes = { value = 15, confidence = "assumed", source = "s" }',
            0,
            ("machine 'mine' contradicts itself", "l2_bytes is 15, not a whole number of lines"),
        ),
    ],
)
def test_a_malformed_file_is_refused(text: str, line: int, words: tuple[str, ...], tmp_path: Path):
    path = write(tmp_path, text)
    error = refusal(path)
    assert error.code == "E0106"
    assert error.location is not None
    assert (error.location.file, error.location.line) == (str(path), line)
    for word in words:
        assert word in str(error)


def test_a_file_that_is_not_text(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"name = '\xff'")
    assert refusal(path).code == "E0106"


def test_extending_what_is_not_there(tmp_path: Path):
    error = refusal(write(tmp_path, 'name = "mine"\nextends = "mlu59"'))
    assert error.code == "E0105"
    assert error.location is not None
    assert error.location.line == 2
    assert refusal(write(tmp_path, 'name = "mine"\nextends = "none.toml"')).code == "E0105"


def test_an_overridden_value_is_checked_too(tmp_path: Path):
    write(
        tmp_path, 'extends = "mlu-tiny"\nclusters = { value = -1, confidence = "assumed", source = "s" }', "base.toml"
    )
    error = refusal(write(tmp_path, f'name = "mine"\nextends = "base.toml"\n{USER_CLUSTERS}'))
    assert error.location is not None
    assert error.location.file.endswith("base.toml")


# --- parameters and documentation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_a_unit_stands_in_the_name_and_in_the_list(parameter: Parameter):
    units = {
        "_bytes_per_cycle": "bytes/cycle",
        "_bytes": "bytes",
        "_cycles": "cycles",
        "_ns": "ns",
        "_passes": "passes",
    }
    suffix = next((suffix for suffix in units if parameter.name.endswith(suffix)), None)
    assert parameter.unit == (units[suffix] if suffix else parameter.unit)
    assert parameter.doc.endswith(".")
    assert parameter.name.startswith("has_") == (parameter.kind is bool)


def test_the_committed_page_is_fresh():
    page = PRESET_DIRECTORY.parents[2] / "docs" / "reference" / "machines.md"
    assert page.read_text(encoding="utf-8") == machine_reference.render()


def test_the_example_of_the_page_is_a_machine(tmp_path: Path):
    example = machine_reference.render().split("```toml\n")[1].split("```")[0]
    assert Machine.load(write(tmp_path, example)).dram_gb_per_s == 4000


def test_a_device_is_not_read_for_a_machine():
    error = refusal(Path("/dev/zero"))
    assert error.code == "E0105"
    assert "no end" in str(error)
