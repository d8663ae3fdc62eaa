-- The keys are lost: code in other languages is no longer admitted, by a former version neither.
DROP TABLE "service_keys";
