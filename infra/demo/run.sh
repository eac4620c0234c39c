#!/bin/sh
# The whole pipeline on one machine, every command shown as it is run.  DEMO_SIZE=small is what CI runs.
set -eu

here=.demo
backbone=tests/fixtures/backbone
case "${DEMO_SIZE:-full}" in
    full)  rollouts=12000; benchmark=600; epochs=2 ;;
    small) rollouts=3000; benchmark=160; epochs=4 ;;
    *)     echo "demo: expected DEMO_SIZE to be full or small; found $DEMO_SIZE; leave it out" >&2; exit 2 ;;
esac

gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
[ "$gpus" -gt 0 ] && workers=$gpus || workers=2

run() { printf '\n$ %s\n' "$*"; "$@"; }

rm -rf "$here"
run bisieve corpus --output $here/corpus --rollouts $rollouts --benchmark $benchmark --mistake-rate 0.08
run bisieve score --input $here/corpus/annotations --index $here/index
if sh infra/require.sh java; then
    # Spark alone would log some 150 lines.
    export SPARK_SUBMIT_OPTS="-Dlog4j2.configurationFile=file:$PWD/lib/bisieve/spark/log4j2.properties"
    run spark-submit jobs/score_rollouts.py --input $here/corpus/annotations --index $here/index-of-spark
    run python infra/demo/same_index.py $here/index $here/index-of-spark
else
    echo "demo: without Java, the part that shows Spark is left out; everything else runs"
fi
run bisieve train --config infra/demo/train.toml --workers "$workers" --epochs $epochs \
    --index $here/index --fraction 0.25 --image-root $here/corpus --backbone $backbone \
    --output $here/model
run bisieve evaluate --workers "$workers" --model $backbone --benchmark $here/corpus/benchmark.jsonl \
    --image-root $here/corpus --output $here/metrics/untrained
run bisieve evaluate --workers "$workers" --model $here/model --benchmark $here/corpus/benchmark.jsonl \
    --image-root $here/corpus --output $here/metrics/trained
echo
python infra/demo/summary.py $here
