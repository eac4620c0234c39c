"""``infra/iam``: what the policies allow is what scoring and training ask of S3, no less and no more."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from support.faulty_proxy import FaultyProxy, Passed
from support.forked_workers import ForkServer

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "infra/iam"
Asked = tuple[str, str]  # action, ARN of a bucket or an object

# By method and what stands in the query.
_OF_BUCKET = {"GET": "s3:ListBucket", "HEAD": "s3:ListBucket", "PUT": "s3:CreateBucket"}
_OF_OBJECT = {
    "GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}  # fmt: skip


def asked(request: Passed) -> set[Asked]:
    """What S3 would look for in a policy."""
    url = urlsplit(request.path)
    query = parse_qs(url.query, keep_blank_values=True)
    bucket, _, key = unquote(url.path).lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not key and "delete" in query:  # of many at once
        keys = re.findall("<Key>(.+?)</Key>", request.posted.decode())
        assert keys
        return {("s3:DeleteObject", f"{arn}/{key}") for key in keys}
    if not key:
        return {(_OF_BUCKET[request.method], arn)}
    aborts = request.method == "DELETE" and "uploadId" in query
    return {("s3:AbortMultipartUpload" if aborts else _OF_OBJECT[request.method], f"{arn}/{key}")}


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allows(statement: dict[str, Any], wanted: Asked) -> bool:
    """Whether the statement allows it."""
    action, resource = wanted
    return action in listed(statement["Action"]) and any(
        fnmatchcase(resource, one) for one in listed(statement["Resource"])
    )


def policy(name: str) -> dict[str, Any]:
    """A policy, with the buckets of these tests."""
    text = (POLICIES / name).read_text()
    return json.loads(text.replace("CORPUS", "iam-corpus").replace("MODELS", "iam-models"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("file", sorted(POLICIES.glob("*.json")), ids=lambda file: file.name)
def test_a_policy_is_one_by_the_grammar_of_iam(file: Path) -> None:
    document = json.loads(file.read_text())
    assert set(document) == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    names = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(names)) == len(names)
    for statement in document["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert re.fullmatch("[A-Za-z0-9]+", statement["Sid"])
        assert statement["Effect"] == "Allow"
        if statement["Action"] == "secretsmanager:GetSecretValue":
            assert statement["Resource"].startswith("arn:aws:secretsmanager:REGION:ACCOUNT:secret:bisieve/")
            continue
        assert all(re.fullmatch(r"s3:[A-Z][A-Za-z]+", action) for action in listed(statement["Action"]))
        of_bucket = statement["Action"] == "s3:ListBucket"
        arn = r"arn:aws:s3:::[A-Z]+" if of_bucket else r"arn:aws:s3:::[A-Z]+/[a-z]+(/\*)?"
        assert all(re.fullmatch(arn, one) for one in listed(statement["Resource"]))


def run(proxy: FaultyProxy, *command: str, **environment: str) -> list[Passed]:
    """Runs one of our programs on S3 behind the proxy; what it asked for there."""
    proxy.calm()
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **environment, "AWS_ENDPOINT_URL": proxy.url, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return proxy.passed


def check(name: str, requests: list[Passed]) -> None:
    """All requests are allowed, and nothing is allowed that was not asked for."""
    statements = policy(name)["Statement"]
    wanted = set().union(*map(asked, requests))
    assert [one for one in wanted if not any(allows(statement, one) for statement in statements)] == []
    for statement in statements:
        for action in set(listed(statement["Action"])) - NOT_SEEN:
            narrow = {**statement, "Action": action}
            assert any(allows(narrow, one) for one in wanted), f"{statement['Sid']}: {action}"


# An upload in parts is aborted where its program fails.
NOT_SEEN = {"s3:AbortMultipartUpload"}
CLEAN = "import sys; from bisieve.cli.main import run_command; sys.exit(run_command('bisieve.cli.clean'))"
CORPUS, MODELS = "s3://iam-corpus", "s3://iam-models"


@pytest.fixture(scope="module")
def buckets(s3: str) -> None:
    """A corpus and a backbone in buckets of their own."""
    import s3fs

    from bisieve.synthetic.corpus import write_corpus
    from bisieve.synthetic.corpus_config import CorpusConfig

    store = s3fs.S3FileSystem()
    for bucket in (CORPUS, MODELS):
        store.mkdir(bucket)
    write_corpus(CORPUS, CorpusConfig(rollouts=60, benchmark=4))
    store.put(f"{ROOT}/tests/fixtures/backbone/", f"{MODELS}/backbone/", recursive=True)


def test_scoring_needs_its_policy_and_then_training_its_own(
    buckets: None, proxy: FaultyProxy, forks: ForkServer
) -> None:
    import s3fs

    score = ["jobs/score_rollouts.py", "--input", f"{CORPUS}/annotations", "--index", f"{CORPUS}/index"]
    requests = run(proxy, sys.executable, *score)
    s3fs.S3FileSystem().pipe(f"{CORPUS}/index/versions/broken-off/part.parquet", b"")
    requests += run(proxy, sys.executable, "-c", CLEAN, "--index", f"{CORPUS}/index", "--older-than", "0m")
    check("score.json", requests)
    train = ["ray_train/train_mprm.py", "--index", f"{CORPUS}/index", "--image-root", CORPUS]
    train += ["--backbone", f"{MODELS}/backbone", "--output", f"{MODELS}/output", "--workers", "1"]
    train += ["--fraction", "1", "--zero-stage", "1", "--global-batch", "16", "--checkpoint-every", "1"]
    check("train.json", run(proxy, *forks.program(*train, "--keep-checkpoints", "1"), **forks.environment))
