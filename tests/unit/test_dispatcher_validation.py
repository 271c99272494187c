"""What is wrong with an experiment.yml: every problem, with its line and a suggestion."""

import pytest
from dispatcher_aws import BUCKET, MACHINE, PREFIX, STEPS, experiment, experiment_yml

PLACE = experiment.Place("aws", "us-east-1", "123456789012", PREFIX, BUCKET)
FILES = {"experiment.yml", "README.md", "lib/features.py", *(f"{step}.py" for step in STEPS)}


def read(text: str | bytes, skipped: dict[str, str] | None = None):
    content = text.encode() if isinstance(text, str) else text
    return experiment.read_experiment(content, FILES, skipped or {}, PLACE)


def problems(text: str | bytes) -> list[str]:
    return read(text).problems


def only_problem(text: str | bytes) -> str:
    (problem,) = problems(text)
    return problem


def test_a_valid_file_has_no_problem_and_keeps_its_values():
    result = read(experiment_yml(train_args='["--C", "0.5"]'))
    assert result.problems == []
    assert result.values["pipeline"]["stateMachineArn"] == MACHINE
    assert result.values["train"] == {
        "code": "train.py",
        "ImageUri": result.values["train"]["ImageUri"],
        "InstanceCount": 1,
        "InstanceType": "ml.t3.medium",
        "VolumeSizeInGB": 10,
        "args": ["--C", "0.5"],
    }


def test_all_problems_come_in_one_answer_in_the_order_of_the_file():
    found = problems(
        experiment_yml(
            pipeline_stateMachineArn="nonsense",
            preprocess_code="missing.py",
            train_InstanceType="ml.t3.mediun",
            evaluate_VolumeSizeInGB="0",
        )
    )
    assert [problem.split(": ")[1] for problem in found] == [
        "pipeline.stateMachineArn",
        "preprocess.code",
        "train.InstanceType",
        "evaluate.VolumeSizeInGB",
    ]
    assert all(problem.startswith("experiment.yml:") for problem in found)


def test_a_problem_names_its_line():
    assert only_problem(experiment_yml(pipeline_stateMachineArn="x")).startswith("experiment.yml:3: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("InstanceType", "InstanceTyp", "preprocess: unknown key 'InstanceTyp'. Did you mean 'InstanceType'?"),
        ("InstanceType", "instancetype", "unknown key 'instancetype'. Did you mean 'InstanceType'?"),
        ("preprocess:", "preproces:", "unknown key 'preproces'. Did you mean 'preprocess'?"),
        ("comment", "5", "unknown key '5'."),
    ],
)
def test_a_misspelt_key_is_one_problem_with_a_suggestion(old, new, message):
    assert message in only_problem(experiment_yml().replace(old, new, 1))


def test_missing_keys_are_named_with_the_line_of_what_lacks_them():
    text = experiment_yml(train_ImageUri=None, train_code=None, comment=None)
    assert [problem.partition(": ")[2] for problem in problems(text)] == [
        "train: key 'code' is missing",
        "train: key 'ImageUri' is missing",
    ]
    assert only_problem(experiment_yml().partition("evaluate:")[0]) == "experiment.yml:1: key 'evaluate' is missing"


def test_a_repeated_key_names_both_lines():
    text = experiment_yml() + "  InstanceCount: 2\n"
    assert "evaluate: key 'InstanceCount' appears twice, first on line " in only_problem(text)


def test_a_step_without_keys_says_what_it_must_hold():
    assert "evaluate: must hold the keys code, ImageUri" in only_problem(
        experiment_yml().partition("evaluate:")[0] + "evaluate:\n"
    )


def test_a_key_that_is_a_mapping_is_a_problem():
    assert "a key must be a plain word, not a mapping" in only_problem(experiment_yml() + "? {a: b}\n: 1\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"1"', "from 1 to 100, without quotes"),
        ("0", "must be from 1 to 100, not 0"),
        ("-1", "not -1"),
        ("101", "not 101"),
        ("1.0", "whole number"),
        ("two", "whole number"),
        ("0x10", "whole number"),
        ("010", "whole number"),
        ("1_0", "whole number"),
        ("9" * 5000, "whole number"),
        ("true", "whole number"),
        ("", "whole number"),
        ("[1]", "must be a whole number, not a list"),
    ],
)
def test_instance_count_must_be_a_whole_number_in_range(value, message):
    assert message in only_problem(experiment_yml(train_InstanceCount=value))


def test_volume_size_has_the_range_of_sagemakers_model():
    assert problems(experiment_yml(train_VolumeSizeInGB="16384")) == []
    assert "must be from 1 to 16384, not 16385" in only_problem(experiment_yml(train_VolumeSizeInGB="16385"))


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [("ml.t3.mediun", "ml.t3.medium"), ("t3.medium", "ml.t3.medium"), ("ML.M5.LARGE", "ml.m5.large")],
)
def test_a_misspelt_instance_type_gets_a_suggestion(value, suggestion):
    assert f"Did you mean '{suggestion}'?" in only_problem(experiment_yml(train_InstanceType=value))


@pytest.mark.parametrize("value", ["5", "true", "", "[a]", "{a: b}", "2026-01-01"])
@pytest.mark.parametrize("key", ["train_code", "train_ImageUri", "train_InstanceType", "pipeline_stateMachineArn"])
def test_text_is_required_where_text_is_meant(key, value):
    assert f"{key.replace('_', '.')}: must be text, not " in only_problem(experiment_yml(**{key: value}))


@pytest.mark.parametrize(
    "value",
    ["scikit-learn:1.4", "docker.io/library/python:3", "683313688378.dkr.ecr.us-east-1.evil.com/a:b", "a" * 300],
)
def test_an_image_outside_ecr_is_refused(value):
    assert "is not an image in Amazon ECR" in only_problem(experiment_yml(train_ImageUri=value))


@pytest.mark.parametrize(
    "value",
    [
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/image@sha256:" + "a" * 64,
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/image:latest",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/image",
    ],
)
def test_images_in_ecr_pass(value):
    assert problems(experiment_yml(train_ImageUri=value)) == []


@pytest.mark.parametrize(
    "value",
    [
        "../train.py",
        "lib/../../train.py",
        "/etc/passwd.py",
        "lib\\train.py",
        '"train\\n.py"',
        '"train.py "',
        '"\\0.py"',
    ],
)
def test_code_stays_inside_the_repository(value):
    assert "must be a path" in only_problem(experiment_yml(train_code=value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("trian.py", "there is no file 'trian.py' in this commit. Did you mean 'train.py'?"),
        ("features.py", "Did you mean 'lib/features.py'?"),
        ("train", "must be a Python file, ending in .py. Did you mean 'train.py'?"),
        ("README.md", "must be a Python file"),
        ("train.py/", None),
        ("./train.py", None),
        ("lib/features.py", None),
    ],
)
def test_code_must_be_a_python_file_of_the_commit(value, message):
    text = experiment_yml(train_code=value)
    assert message in only_problem(text) if message else problems(text) == []


def test_code_that_is_not_copied_says_why():
    result = read(experiment_yml(train_code="link.py"), {"link.py": "it is a symbolic link"})
    assert result.problems[0].endswith("'link.py' is not copied to the run: it is a symbolic link")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (MACHINE.replace("us-east-1", "eu-west-1"), "must be in the repository's region, us-east-1"),
        (MACHINE.replace("123456789012", "999999999999"), "must be in the repository's account"),
        (MACHINE.replace("demo-exp-", "payroll-"), "only state machines named demo-exp-…, not 'payroll-"),
        (MACHINE.replace("demo-exp-", "demo-expensive-"), "only state machines named demo-exp-…"),
        (MACHINE + ":PROD", "is not the ARN of a state machine"),
        (MACHINE.replace("stateMachine", "execution"), "is not the ARN of a state machine"),
        ("arn:aws:lambda:us-east-1:123456789012:function:demo-exp-f", "is not the ARN of a state machine"),
    ],
)
def test_only_state_machines_of_the_prefix_may_be_started(value, message):
    assert message in only_problem(experiment_yml(pipeline_stateMachineArn=value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("s3://other-bucket/data.csv", "the role of the jobs reads this bucket only"),
        (f"https://{BUCKET}/data.csv", "is not the URI of an object"),
        (f"s3://{BUCKET}", "is not the URI of an object"),
        (f"s3://{BUCKET}/", "is not the URI of an object"),
    ],
)
def test_the_data_must_be_an_object_in_the_bucket(value, message):
    assert message in only_problem(experiment_yml(pipeline_input_data_uri=value))


@pytest.mark.parametrize(
    ("yml", "args"),
    [
        ("[--test-size, 0.20]", ["--test-size", "0.20"]),
        ("[1_000, 1e3, 0x1F, 010, 1:30]", ["1_000", "1e3", "0x1F", "010", "1:30"]),
        ("[2026-01-01, .inf, '', \"true\"]", ["2026-01-01", ".inf", "", "true"]),
        ("\n    - --C\n    - 0.10", ["--C", "0.10"]),
        ("[]", ["--log-level", "INFO"]),
        (None, ["--log-level", "INFO"]),
    ],
)
def test_arguments_are_taken_as_they_are_written(yml, args):
    result = read(experiment_yml(train_args=yml))
    assert (result.problems, result.values["train"]["args"]) == ([], args)


@pytest.mark.parametrize(
    ("yml", "message"),
    [
        ("[--flag, yes]", 'train.args[1]: YAML reads yes as true or false: quote it: "yes"'),
        ("[null]", "train.args[0]: YAML reads null as nothing"),
        ("[--a, [b]]", "train.args[1]: must be text, not a list"),
        ("--C 1", "train.args: must be a list"),
        ("", "train.args: must be a list such as"),
        (f"[{'x' * 257}]", "train.args[0]: has 257 characters; SageMaker takes at most 256"),
        (f"[{'x,' * 101}]", "train.args: has 101 items; SageMaker takes at most 100"),
        ('["a\\nb"]', "train.args[0]: holds a line end"),
        ('["a\\0b"]', "train.args[0]: holds a line end or a control character"),
    ],
)
def test_arguments_that_sagemaker_would_refuse_are_refused(yml, message):
    assert message in only_problem(experiment_yml(train_args=yml))


@pytest.mark.parametrize(
    ("yml", "comment"),
    [("0.10", "0.10"), ("yes", "yes"), ("", ""), ("new code: faster", None), ('"code, ß, 模型"', "code, ß, 模型")],
)
def test_the_comment_is_free_text(yml, comment):
    result = read(experiment_yml(comment=yml))
    if comment is None:
        assert "experiment.yml:1: not valid YAML, column 18" in result.problems[0]
    else:
        assert (result.problems, result.values["comment"]) == ([], comment)


@pytest.mark.parametrize("yml", ["[a]", '"\\uD800"', '"\\x1b[31m"'])
def test_a_comment_that_is_no_text_is_refused(yml):
    assert "experiment.yml:1: comment: " in only_problem(experiment_yml(comment=yml))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "experiment.yml: the file is empty"),
        (b"# nothing\n", "experiment.yml: the file is empty"),
        (b"just text", "experiment.yml:1: the file must hold keys such as 'pipeline:', not text"),
        (b"- a\n- b\n", "experiment.yml:1: the file must hold keys such as 'pipeline:', not a list"),
        (b"a: 1\nb: \xff\n", "experiment.yml:2: byte 8 is not UTF-8: save the file in that encoding"),
        (b"a: 1\nb: \x00\n", "experiment.yml:2: the file holds a character that YAML does not allow"),
        (b"a: 1\n---\nb: 2\n", "experiment.yml:2: the file must hold one document: remove this '---'"),
        (b"a: &x 1\n", "experiment.yml:1: anchors and aliases (& and *) are not read: repeat the value"),
        (b"a: *x\n", "experiment.yml:1: anchors and aliases (& and *) are not read: repeat the value"),
        (b"a: !!python/object/apply:os.system [id]\n", "experiment.yml:1: tags ("),
        (b"a: !x 1\n", "experiment.yml:1: tags ('!x') are not read: write plain values"),
        (b"\na: ! 1\n", "experiment.yml:2: tags ('!') are not read: write plain values"),
        (b"a: [[[[[[[[[[1]]]]]]]]]]\n", "experiment.yml:1: values are nested more than 8 levels deep"),
        (b"[" * 60_000, "experiment.yml:1: values are nested more than 8 levels deep"),
        (b'a: "\\UFFFFFFFF"\n', "experiment.yml: an escape sequence or directive in the file is out of range"),
        (b"a: b\n\tc: d\n", "experiment.yml:2: not valid YAML, column 1: found character '\\t'"),
        (b"a: [1\nb: 2\n", "experiment.yml:2: not valid YAML, column 2: "),
        (b"a: " + b"x" * 65_536, "experiment.yml: the file has 65,539 bytes; at most 65,536 are read"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem_with_its_line(content, message):
    assert only_problem(content).startswith(message)


def test_merge_keys_are_refused():
    assert "a key must be a plain word, not the merge key '<<'" in only_problem(
        experiment_yml().replace("train:\n", "train:\n  <<: {a: b}\n", 1)
    )


def test_windows_line_ends_and_a_byte_order_mark_are_fine():
    text = experiment_yml(train_InstanceCount="0").replace("\n", "\r\n")
    assert only_problem(b"\xef\xbb\xbf" + text.encode()) == only_problem(experiment_yml(train_InstanceCount="0"))


def test_a_file_full_of_problems_is_cut_short():
    found = problems("".join(f"key{number}: 1\n" for number in range(3000)))
    assert len(found) == experiment.MAX_PROBLEMS + 1
    assert found[-1] == "experiment.yml: there are more problems; these are the first 100"


def test_messages_stay_on_one_line_and_short():
    found = only_problem(experiment_yml(train_InstanceType='"`x\\n' + "y" * 5000 + '"'))
    assert "\n" not in found
    assert "`" not in found
    assert len(found) < 250
