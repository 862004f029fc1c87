"""A bad configuration is refused with the file, the line, the key, the value and the nearest valid choice."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import AfterValidator, create_model
from pydantic_core import PydanticUndefined

from pudle import denoisers, experiments, methods
from pudle.data.catalogue import MNIST_FILES
from pudle.errors import PudleError
from pudle.experiments._shared.configuration import Configuration
from pudle.experiments._shared.section import Section
from pudle.harness import plugins, settings

CONFIG = Path(__file__).parents[1] / "config"


def _merge(base: dict, overlay: dict) -> dict:
    """What Snakemake does with --configfile: dictionaries are merged, everything else replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _best(before: str, after: str) -> str:
    """The overlay of denoising-best with its last ``before`` replaced: that of the network untied, if there are several."""
    head, tail = (CONFIG / "denoising-best.yaml").read_text().rsplit(before, 1)
    return head + after + tail


def _validate(overlay: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(overlay)
    base = yaml.safe_load((CONFIG / "config.yaml").read_text())
    experiments.validate(_merge(base, yaml.safe_load(overlay)), [CONFIG / "config.yaml", path])


def _put_data(root: Path, *without: str) -> None:
    """Folders of the data sets with files of the right names in them, which is all that planning looks at; empty ones ``without``."""
    files = dict.fromkeys(("bsd68", "cbsd432", "set12"), ("one.png",)) | {"mnist": [f"{name}.gz" for name in MNIST_FILES]}
    for folder, names in files.items():
        (root / folder).mkdir()
        for name in () if folder in without else names:
            (root / folder / name).touch()


@pytest.mark.parametrize("name", ["config", "smoke", "paper", "denoising-best"])
def test_our_own_scales_are_valid(name, tmp_path, monkeypatch):
    _put_data(tmp_path)
    monkeypatch.setenv("PUDLE_DATA", str(tmp_path))
    _validate((CONFIG / f"{name}.yaml").read_text(), tmp_path)


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("sede: 3", ["mine.yaml, line 1", "unknown key 'sede'", "did you mean 'seeds'"]),
        ("experiments:\n  lerning: {}", ["mine.yaml, line 2", "'experiments.lerning'", "did you mean 'learning'"]),
        (
            "experiments:\n  learning:\n    lamda: 1",
            ["mine.yaml, line 3", "'experiments.learning.lamda'", "did you mean 'lam'"],
        ),
        (
            "experiments:\n  learning:\n    estimators: [dec, ae-lass]",
            ["mine.yaml, line 3", "experiments.learning.estimators.1", "'ae-lass'", "did you mean 'ae-lasso'"],
        ),
        ("experiments: {learning: {adam_eps: 1e-3}}", ["adam_eps", "'1e-3'", "1.0e-3"]),
        ('experiments: {learning: {lam: "0.2"}}', ["lam", "write 0.2"]),
        ("experiments: {learning: {updates: 0}}", ["updates", "0", "1"]),
        ("experiments: {learning: {lam: 0}}", ["lam", "must be above 0"]),
        ("experiments: {learning: {n_layers: []}}", ["n_layers", "at least 1"]),
        ("experiments: {learning: {n_layers: [5, 5]}}", ["n_layers", "twice"]),
        (
            "experiments: {learning: {sparsity: 101}}",
            [
                "experiments.learning.sparsity = 101",
                "mine.yaml, line 1",
                "experiments.learning.n_atoms = 100",
                "config.yaml, line",
            ],
        ),
        ("experiments: {denoising: {crop: 64}}", ["crop = 64", "stride = 4", "multiple of stride"]),
        ("experiments: {denoising: {crop: 5}}", ["crop = 5", "kernel = 9"]),
        ("experiments: {denoising: {train: skimage-test}}", ["train = skimage-test", "test = ['skimage-test']"]),
        ("experiments: {denoising: {lam: 0.1}}", ["lam = 0.1", "lams = [0.08, 0.16, 0.24]", "one of lams"]),
        ("experiments: {denoising: {test: skimage-test}}", ["test", "'skimage-test', not of type array"]),
        ("experiments: {denoising: {train: 'folder:nowhere'}}", ["mine.yaml, line 1", "no such folder in"]),
        (
            "experiments:\n  denoising:\n    variants:\n      small: {crop: 64}",
            ["experiments.denoising.variants.small.crop = 64", "mine.yaml, line 4", "multiple of stride"],
        ),
        ("experiments: {denoising: {variants: {a: {untide: true}}}}", ["unknown key", "did you mean 'untied'"]),
        (
            "experiments: {denoising: {denoisers: {nml: {}}}}",
            ["experiments.denoising.denoisers.nml", "unknown denoiser 'nml': did you mean 'nlm'"],
        ),
        ("experiments: {denoising: {denoisers: {tv: {round: 3}}}}", ["denoisers.tv.round", "did you mean 'rounds'"]),
        (
            "experiments: {denoising: {test: [skimage-tst]}}",
            ["mine.yaml, line 1", "unknown data set 'skimage-tst'", "did you mean 'skimage-test'"],
        ),
        ("experiments: {denoising: {test: [bsd68]}}", ["bsd68", "is missing", "PUDLE_DATA"]),
        ("experiments: {denoising: {test: [mnist]}}", ["unknown data set 'mnist'"]),
        (
            "experiments: {interpretability: {data_set: mnist}}",
            ["mine.yaml, line 1", "'experiments.interpretability.data_set'", "'mnist' is missing", "LeCun", "PUDLE_DATA"],
        ),
        (
            "experiments: {interpretability: {estimator: dec}}",
            ["dec_layers = [15]", "n_layers = [15, 50]", "same networks"],
        ),
        (
            "experiments: {interpretability: {dec: {epochs: 100}}}",
            [
                "interpretability.drop_epochs = [1400, 1700] (",
                "interpretability.dec.epochs = 100 (",
                "mine.yaml, line 1",
                "ends before epoch 1400",
            ],
        ),
        (
            "experiments: {interpretability: {dec: {data_set: mnist}}}",
            ["mine.yaml, line 1", "'experiments.interpretability.dec.data_set'", "'mnist' is missing"],
        ),
        (
            "experiments: {interpretability: {dec: {epoch: 3}}}",
            ["unknown key 'experiments.interpretability.dec.epoch'", "did you mean 'epochs'"],
        ),
        (_best("crop: 65", "crop: 64"), ["networks.untied.crop = 64", "stride = 4", "multiple of stride"]),
        (_best("margin: 8", "margin: 33"), ["networks.untied.margin = 33", "crop = 65", "exclude all pixels"]),
        (_best("test: bsd68", "test: cbsd432"), ["train = cbsd432", "test = cbsd432"]),
        (_best("untied: true", "untyed: true"), ["unknown key", "networks.untied.untyed", "did you mean 'untied'"]),
        (_best("step: 1.0", "step: 0"), ["networks.untied.step", "must be above 0"]),
        (_best("schedule: cosine\n", "schedule: cosin\n"), ["'cosin'", "did you mean 'cosine'"]),
        (
            f"experiments: {{{', '.join(f'{experiment}: null' for experiment in experiments.EXPERIMENTS)}}}",
            ["no experiment to run"],
        ),
        ("plugins: [nowhere.py]", ["nowhere.py", "no such file"]),
        (
            "experiments: {baselines: {methods: {pudle-ae-sl: {}}}}",
            ["mine.yaml, line 1", "experiments.baselines.methods.pudle-ae-sl", "did you mean 'pudle-ae-ls'"],
        ),
        (
            "experiments:\n  baselines:\n    methods:\n      mine: {method: pudle-dec, lamb: 0.1}",
            ["mine.yaml, line 4", "experiments.baselines.methods.mine.lamb", "did you mean 'lam'"],
        ),
        ("experiments: {robustness: {variants: {noise: {nois: 1}}}}", ["unknown key", "did you mean 'noise'"]),
        ("experiments: {robustness: {variants: {noise: {method_settings: {stp: 1}}}}}", ["'stp'", "did you mean 'step'"]),
        ("data:", ["mine.yaml, line 1", "'data' is None, not of type object"]),
        ("data: ../mydata", ["mine.yaml, line 1", "'data' is '../mydata', not of type object"]),
        (
            "experiments:\n  baselines:\n    methods:\n      3: {method: mod}",
            ["mine.yaml, line 4", "'experiments.baselines.methods' has the key 3", "not a string; quote it"],
        ),
        (
            "experiments: {baselines: {methods:\n  {yes: {method: mod}}}}",
            ["mine.yaml, line 2", "the key True", "not a string; quote it"],
        ),
        ("experiments: {denoising: {variants: {null: {}}}}", ["mine.yaml, line 1", "the key None", "not a string; quote it"]),
        ("experiments: {baselines: {methods: {2001-01-01: {}}}}", ["mine.yaml, line 1", "datetime.date(2001, 1, 1)"]),
        ("experiments: {baselines: {methods: {mine: {method: mod, 1.5: 2}}}}", ["methods.mine' has the key 1.5"]),
        (
            "experiments:\n  baselines:\n    at_sparsity:\n      '3': {nodl: {learning_rate: 1}}",
            ["mine.yaml, line 4", "at_sparsity.3.nodl'", "'nodl'", "did you mean 'noodl'"],
        ),
        (
            "experiments:\n  baselines:\n    at_sparsity:\n      '3': {noodl: {rate: 1}}",
            ["mine.yaml, line 4", "at_sparsity.3.noodl", "unknown setting 'rate'", "learning_rate"],
        ),
        ("experiments: {baselines: {at_sparsity: {s3: {}}}}", ["mine.yaml, line 1", "at_sparsity", "s3"]),
        ("3: 4", ["mine.yaml, line 1", "'the configuration' has the key 3"]),
        (
            "experiments:\n  robustness:\n    variants:\n      xx: {method_settings: {foo: 3}}",
            ["mine.yaml, line 4: 'experiments.robustness.variants.xx.method_settings.foo': method", "unknown setting 'foo'"],
        ),
        (
            "experiments:\n  robustness:\n    variants:\n      batch-16: {n_samples: 10}",
            [
                "experiments.robustness.variants.batch-16.batch = 16 (",
                "config.yaml, line",
                "experiments.robustness.variants.batch-16.n_samples = 10 (",
                "mine.yaml, line 4)",
            ],
        ),
        (
            "experiments: {robustness: {batch: fulll}}",
            ["mine.yaml, line 1", "'experiments.robustness.batch'", "'fulll'", "did you mean 'full'", "integer"],
        ),
        ("experiments: {robustness: {batch: 0}}", ["mine.yaml, line 1", "below the least allowed value 1"]),
        (
            "experiments:\n  robustness:\n    variants:\n      xx: {sparsity: 2000}",
            ["experiments.robustness.variants.xx.sparsity = 2000 (", "mine.yaml, line 4)", "experiments.robustness.n_atoms = "],
        ),
        (
            "experiments:\n  denoising:\n    variants:\n      small: {crop: 10}",
            [
                "experiments.denoising.variants.small.crop = 10 (",
                "mine.yaml, line 4)",
                "experiments.denoising.stride = 4 (",
                "config.yaml, line",
            ],
        ),
        (
            _best("crop: 65", "crop: 64"),
            [
                "experiments.denoising_best.networks.untied.crop = 64 (",
                "experiments.denoising_best.stride = 4 (",
                "mine.yaml, line",
            ],
        ),
        ("scale: ../up", ["scale", "'../up'"]),
        ("seeds: []", ["seeds", "at least 1"]),
        ("seeds: 1.0", ["'seeds'", "1.0", "integer"]),
        ("seeds: 20000", ["'seeds'", "20000", "10000"]),
        ("experiments: {support: {seeds: 20000}}", ["'experiments.support.seeds'", "10000"]),
        ("experiments: {learning: {lam: .nan}}", ["lam", "nan", "finite number"]),
        (
            "experiments: {learning: {updates: 1000000000000000000}}",
            ["updates", "above the largest allowed value 1000000000000"],
        ),
        ("threads: two", ["threads", "'two'", "integer"]),
        ("experiments: {learning: {updates: true}}", ["updates", "True", "integer"]),
        ("experiments: {learning: {lam: true}}", ["lam", "True", "number"]),
        ("experiments: {learning: {seeds: two}}", ["learning.seeds", "'two', not of type integer or array"]),
        (
            "experiments: {robustness: {variants: {mine: {n_samples: null}}}}",
            ["robustness.variants.mine.n_samples", "None, not of type integer"],
        ),
        ("experiments: {interpretability: {n_contributors: 3}}", ["n_contributors", "3", "least allowed value 20"]),
        ("experiments: {learning: {seeds: [0, 1.5]}}", ["learning.seeds.1", "1.5, not of type integer"]),
        ("experiments: {learning: 3}", ["experiments.learning", "3, not of type object or null"]),
        ("experiments: {interpretability: {ridge: wide}}", ["ridge", "'wide', not of type number or null"]),
        ("experiments: {denoising: {variants: {mine: {updates: x}}}}", ["variants.mine.updates", "'x', not of type integer"]),
        ("reference: 3", ["mine.yaml, line 1", "'reference'", "3, not of type string or null"]),
        ("experiments: {learning: {lam: 0}}", ["lam", "is 0; it must be above 0"]),
        ("experiments: {unrolling: {n_layers: 1}}", ["unrolling.n_layers", "1", "least allowed value 2"]),
        ("experiments: {initialization: {n_features: 2}}", ["initialization.n_features", "2", "least allowed value 3"]),
        ("experiments: {robustness: {variants: {mine: {n_features: 1}}}}", ["mine.n_features", "least allowed value 2"]),
        ("experiments: {bias: {lams: [0.1, 0.2]}}", ["bias.lams", "too few entries", "3"]),
        ("experiments: {baselines: {at_sparsity: null}}", ["baselines.at_sparsity", "None, not of type object"]),
        ("experiments: {interpretability: {classes: [0, 10]}}", ["classes.1", "10", "largest allowed value 9"]),
    ],
)
def test_errors_name_file_key_value_and_choice(overlay, words, tmp_path, monkeypatch):
    monkeypatch.setenv("PUDLE_DATA", str(tmp_path))
    if "denoising_best" in overlay:
        _put_data(tmp_path)
    with pytest.raises(PudleError) as error:
        _validate(overlay, tmp_path)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("empty", "words"),
    [
        ("bsd68", ["'experiments.denoising.test.0'", "bsd68: no images in the folder", "Berkeley", "PUDLE_DATA"]),
        ("mnist", ["'experiments.interpretability.data_set'", "train-images-idx3-ubyte: missing, with or without .gz"]),
    ],
)
def test_the_paper_scale_computed_here_is_refused_without_its_data(empty, words, tmp_path, monkeypatch):
    _put_data(tmp_path, empty)
    monkeypatch.setenv("PUDLE_DATA", str(tmp_path))
    paper = (CONFIG / "paper.yaml").read_text()
    _validate(paper, tmp_path)  # what is taken from the reference needs no data
    with pytest.raises(PudleError) as error:
        _validate(paper.replace("\nreference: ", "\nreference: null # "), tmp_path)
    for word in ["mine.yaml, line", *words]:
        assert word in str(error.value)


def test_what_the_command_line_says_in_braces_means_what_it_would_in_a_file():
    texts = {"experiments": {"learning": {"lam": "0.3", "n_layers": ["5", "10"]}, "bias": "null"}, "device": "cpu", "seeds": 2}
    assert settings.typed(texts) == {
        "experiments": {"learning": {"lam": 0.3, "n_layers": [5, 10]}, "bias": None},
        "device": "cpu",
        "seeds": 2,
    }
    assert settings.typed({"scale": "[odd"}) == {"scale": "[odd"}


def test_what_is_set_nowhere_is_told_by_the_nearest_key_above_that_is(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("experiments:\n  bias:\n    lam: 0.1\n  learning: {lam: 0.2}")
    sources = settings.Sources([path], {"experiments": {"learning": {"step": 0.1}}, "data": {"root": "d"}})
    assert sources.where(["experiments", "bias", "methods", "mine", "lam"]) == f"{path}, line 3"  # where its value begins
    assert sources.where(["experiments", "learning", "step"]) == "--config"
    assert sources.where(["data", "rot"]) == "--config"
    assert sources.where(["nothing", "of", "it"]) == "the configuration"


def test_an_error_says_that_the_command_line_set_it_where_it_did():
    base = yaml.safe_load((CONFIG / "config.yaml").read_text())
    options = {"experiments": {"learning": {"lam": -1}}}
    with pytest.raises(PudleError, match=r"^--config: 'experiments.learning.lam' is -1"):
        experiments.validate(_merge(base, options), [CONFIG / "config.yaml"], options)


def test_a_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1")
    with pytest.raises(PudleError, match=r"broken\.yaml: cannot be read as YAML"):
        experiments.validate({}, [path])


@pytest.mark.parametrize(
    ("overlay", "says"),
    [
        (
            "experiments:\n  baselines:\n    methods:\n      mine: {method: mod}\n      other: {}\n      mine: {method: noodl}",
            "'experiments.baselines.methods.mine' is defined twice, in lines 4 and 6",
        ),
        (
            "experiments: {bias: null}\nseeds: 3\nexperiments: {learning: {lam: 0.1}}",
            "'experiments' is defined twice, in lines 1 and 3",
        ),
        ("plugins: [{a: 1, 'a': 2}]", "'plugins.0.a' is defined twice, in lines 1 and 1"),
    ],
)
def test_a_key_that_stands_there_twice_is_refused(overlay, says, tmp_path):
    with pytest.raises(PudleError, match=rf"mine\.yaml: {re.escape(says)}"):
        _validate(overlay, tmp_path)


def test_a_mapping_that_two_places_share_is_no_key_twice_and_one_inside_itself_is_refused(tmp_path):
    _validate("experiments: {baselines: {methods: {a: &a {method: mod}, b: *a}}}", tmp_path)
    path = tmp_path / "loop.yaml"
    path.write_text("plugins: &x [1, *x]")
    with pytest.raises(PudleError, match=r"loop\.yaml, line 1: 'plugins\.1' contains itself"):
        experiments.validate({}, [path])


def test_a_section_of_null_switches_a_experiment_off():
    config = yaml.safe_load((CONFIG / "config.yaml").read_text())
    assert config["experiments"].pop("denoising_best", "missing") is None, "hours of training are not for the default scale"
    config["experiments"]["denoising"] = None
    assert {cell.experiment for cell in experiments.plan(config)} == set(config["experiments"]) - {"denoising"}


def test_every_setting_has_a_description():
    for model in (Configuration, *(experiments.get(experiment).settings for experiment in experiments.EXPERIMENTS)):
        assert all(field.description for field in model.model_fields.values()), model


def _models(base: type) -> set[type]:
    return {base}.union(*map(_models, base.__subclasses__()))


def test_no_setting_has_two_limits_of_a_kind():
    """Pydantic would apply one of them, and not say so."""
    assert [experiments.get(experiment).settings for experiment in experiments.EXPERIMENTS]
    assert methods.REGISTRY.names() and denoisers.REGISTRY.names()
    for model in _models(settings.Model):
        for key, field in model.model_fields.items():
            limits = [type(limit) for limit in field.metadata if not isinstance(limit, AfterValidator)]
            assert len(limits) == len(set(limits)), f"{model}: {key}"


def test_defaults_reach_the_plan(monkeypatch):
    """The models are their only source. Inner models, such as those of variants, have none that could be missed."""
    for model in _models(settings.Model):
        if model.__module__.startswith("pudle.") and not issubclass(model, Section | Configuration | plugins.Settings):
            assert all(field.default in (None, PydanticUndefined) for field in model.model_fields.values()), model
    config = yaml.safe_load((CONFIG / "config.yaml").read_text())
    section = {key: value for key, value in config["experiments"]["jacobian"].items() if key != "seeds"}
    jacobian = experiments.get("jacobian")
    changed = create_model("Changed", __base__=jacobian.settings, new=(int, 7), other=(int, None))
    monkeypatch.setattr(experiments, "get", lambda name: replace(jacobian, settings=changed))
    (cell,) = experiments.plan({"seeds": 1, "experiments": {"jacobian": section}})
    assert cell.settings == section | {"new": 7}
    (cell,) = experiments.plan({"seeds": 1, "experiments": {"jacobian": section | {"new": 8, "other": 9}}})
    assert cell.settings == section | {"new": 8, "other": 9}


def test_a_section_as_its_model_holds_the_values_of_the_file():
    config = yaml.safe_load((CONFIG / "config.yaml").read_text())
    for experiment, section in config["experiments"].items():
        if section is not None:
            kept = experiments.get(experiment).settings.model_validate(section).model_dump(exclude_unset=True)
            assert kept == section, experiment


def test_config_readme_describes_every_key():
    from pudle.cli import keys_table

    assert keys_table() in (CONFIG / "README.md").read_text(), "paste the output of `pudle keys` into config/README.md"
