#!/bin/sh
# An executor in POSIX sh and curl: does one attempt at one task, for real as far as the contract goes.
#
# Environment: AGENTIC_OS_URL, AGENTIC_OS_CREDENTIAL (the executor's own), TASK_ID.
# Exit codes: 0 handed in, 1 refused (the problem is printed), 2 the brief is not what its digest says.
set -eu
LC_ALL=C
export LC_ALL
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
NO_SKILLS=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

# Tokens stay in files, since other users can read a command line.
printf 'Authorization: Bearer %s\n' "$AGENTIC_OS_CREDENTIAL" >"$work/credential"

# Take the text of one plain member out of a JSON document of one line.
member() {
    sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p' "$2"
}

new_id() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' |
        sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\)$/\1-\2-4\3-8\4-\5/'
}

# send KIND SEQ BODY TOKEN_FILE: the same bytes again after a network error, 429 or 5xx, and only then.
send() {
    printf '{"contract":"aos.execution/1","callback_id":"%s","task_id":"%s","attempt":%s,"seq":%s,"kind":"%s",%s' \
        "$(new_id)" "$TASK_ID" "$attempt" "$2" "$1" \
        "\"occurred_at\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\",\"body\":$3}" >"$work/callback"
    for pause in 1 2 4 0; do
        status=$(curl -sS -o "$work/answer" -w '%{http_code}' -H @"$4" -H 'Content-Type: application/json' \
            --data-binary @"$work/callback" "$AGENTIC_OS_URL/api/executions/callback") || status=000
        case $status in
            202) return 0 ;;
            000 | 429 | 5??) sleep "$pause" ;;
            *) break ;;
        esac
    done
    echo "$1 was refused ($status):" >&2
    cat "$work/answer" >&2
    exit 1
}

# The answer is {"attempt": n, "digest": "sha256:...", "brief": {...}}, the brief as its canonical text stands.
curl -sS --fail-with-body -o "$work/answer" -H @"$work/credential" "$AGENTIC_OS_URL/api/tasks/$TASK_ID/brief" ||
    { cat "$work/answer" >&2; exit 1; }
sed 's/^{"attempt":[0-9]*,"digest":"[^"]*","brief"://; s/}$//' "$work/answer" | tr -d '\n' >"$work/brief"
attempt=$(sed 's/^{"attempt":\([0-9]*\),.*/\1/' "$work/answer")
digest=$(sed 's/^[^,]*,"digest":"\([^"]*\)".*/\1/' "$work/answer")
own="sha256:$(sha256sum "$work/brief" | cut -d ' ' -f 1)"
if [ "$own" != "$digest" ]; then
    echo "The brief has the digest $own, not $digest." >&2
    exit 2
fi
# A quote inside a JSON text is written \", so these patterns match members and never what a text says; the last
# "step" of the line is the brief's own, since no object follows it.
step=$(member step "$work/brief")
# The ids of the objects of a list that was cut out of the brief.
ids_of() {
    awk '{ n = split($0, part, /[{]"id":"/); for (i = 2; i <= n; i++) { sub(/".*/, "", part[i]); print part[i] } }'
}
criteria=$(sed 's/^{"acceptance":\[//; s/\],"answers":.*//' "$work/brief" | ids_of)
items=$(sed 's/.*"review_items":\[//; s/\],"step":.*//' "$work/brief" | ids_of)

send ack 1 "{\"brief_digest\":\"$own\",\"skillset_digest\":\"$NO_SKILLS\",\"runtime\":{\"name\":\"sh\"}}" \
    "$work/credential"
printf 'Authorization: Bearer %s\n' "$(member attempt_token "$work/answer")" >"$work/token"

# for_each IDS FORM: one entry for each id, which takes the place of @.
for_each() {
    for id in $1; do
        printf '%s\n' "$2" | sed "s/@/$id/"
    done | paste -s -d , -
}
responses=$(for_each "$items" '{"item_id":"@","how":"It was taken into account."}')

case $step in
    plan)
        how=$(for_each "$criteria" '{"criterion_id":"@","how":"look at the line that was written"}')
        send plan 2 "{\"summary\":\"Write one line with the shell (attempt $attempt).\",\"acceptance\":[$how],
            \"responds_to\":[$responses],
            \"steps\":[{\"id\":\"write\",\"title\":\"Write the line\",\"tools\":[\"printf\"],\"risk\":\"low\"}]}" \
            "$work/token"
        ;;
    execute)
        send progress 2 '{"message":"Writing the line.","fraction":0.5}' "$work/token"
        printf 'done by sh\n' >"$work/line.txt"
        content="sha256:$(sha256sum "$work/line.txt" | cut -d ' ' -f 1)"
        size=$(($(wc -c <"$work/line.txt")))
        curl -sS --fail-with-body -o "$work/answer" -X PUT -H @"$work/token" --data-binary @"$work/line.txt" \
            "$AGENTIC_OS_URL/api/artifacts/$content" || { cat "$work/answer" >&2; exit 1; }
        evidence=$(for_each "$criteria" \
            "{\"criterion_id\":\"@\",\"rank\":\"observed\",\"status\":\"pass\",\"artifact\":\"$content\"}")
        send result 3 "{\"outcome\":\"success\",\"summary\":\"The line is written.\",\"changes\":[\"line.txt: new\"],
            \"artifacts\":[{\"name\":\"line.txt\",\"media_type\":\"text/plain\",\"digest\":\"$content\",\"size\":$size}],
            \"evidence\":[$evidence],\"responds_to\":[$responses]}" "$work/token"
        ;;
    *)
        send failure 2 '{"class":"internal","message":"Reviewing is beyond a shell.","retryable":false}' "$work/token"
        ;;
esac
echo "$step: $(member phase "$work/answer")"
