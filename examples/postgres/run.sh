# Usage: sh run.sh STREAMSQL_URL HOST PORT DATABASE USER
# Prints the table that the sink keeps at the origin, before the changes and after them.
cd "$(dirname "$0")" || exit 1
streamsql=$1
origin="postgresql://$5@$2:$3/$4"
ask() { psql "$origin" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

shown() { # wait until the sink's table says so, then print it
    until [ "$(ask -c 'SELECT coalesce(sum(orders), 0) FROM regions' 2>/dev/null)" = "$1" ]; do sleep 0.1; done
    ask -c 'SELECT * FROM regions ORDER BY region'
}

ask -f origin.sql || exit 1
sed "s/'HOST'/'$2'/; s/'PORT'/'$3'/; s/'DATABASE'/'$4'/; s/'USER'/'$5'/" setup.sql | psql "$streamsql" -X -q -v ON_ERROR_STOP=1 || exit 1
shown 9
ask -f changes.sql || exit 1
echo "after the changes:"
shown 8
echo "looked up:"
visit() { psql "$streamsql" -X -q -v ON_ERROR_STOP=1 -c "INSERT INTO visits VALUES $1"; }
visit "('north', 'ann'), ('west', 'bob')" || exit 1
ask -c "UPDATE managers SET name = 'nils' WHERE region = 'north'" || exit 1
visit "('north', 'cleo')" || exit 1
psql "$streamsql" -X -q -A -t -c 'SELECT * FROM received ORDER BY visitor'
